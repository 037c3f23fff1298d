"""The index of an export: the name, the size and the digest of everything in it, in the order it stands there.

    quire-export.json               this index, canonical JSON
    project/<path>                  the project's own files
    registry/<table>.jsonl          rows as canonical JSON, one a line, in the order of their keys
    artifacts/b3-<hex>/<file>       as in a store (docs/format.md), the manifest first

The same project gives the same bytes: no times, owners or names of machines are in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from quire.artifact import canonical, is_digest
from quire.errors import BackupInvalid, InvalidSetting, ManifestInvalid
from quire.registry import Head

INDEX = "quire-export.json"
FORMAT = 1
LIMIT = 64 << 20  # bytes of an index: some hundred thousand files
LONGEST_PATH = 200  # of a project file: what a plain tar header holds beside its directory
_ARTIFACT = re.compile(r"artifacts/(b3-[0-9a-f]{64})/(manifest\.json|tokens\.safetensors|kv-\d{5}\.safetensors)")
_TABLE = re.compile(r"registry/[a-z][a-z_]{0,62}\.jsonl")
_DAMAGED = "take another copy of the export"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an export."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Index:
    """`revision`: of the registry's schema. `head`: the audit log's, as ``records:hash``."""

    revision: str
    head: Head
    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Bytes of everything but the index."""
        return sum(entry.bytes for entry in self.entries)

    def to_bytes(self) -> bytes:
        return canonical(
            {
                "format": FORMAT,
                "revision": self.revision,
                "head": str(self.head),
                "entries": [[entry.name, entry.bytes, entry.digest] for entry in self.entries],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Index:
        """An index that anybody may have written. `BackupInvalid`."""
        try:
            document = json.loads(data)
            if not isinstance(document, dict) or canonical(document) != data:
                raise ValueError("it is not canonical JSON of one object")
            if document.get("format") != FORMAT:
                raise ValueError(f"format {document.get('format')!r:.20}, this Quire reads {FORMAT}")
            return _parse(document)
        except (ValueError, TypeError, KeyError, RecursionError, InvalidSetting, ManifestInvalid) as error:
            raise BackupInvalid(f"{INDEX} is not the index of an export: {error}", hint=_DAMAGED) from error


def _parse(document: dict[str, Any]) -> Index:
    if set(document) != {"format", "revision", "head", "entries"} or not isinstance(document["revision"], str):
        raise ValueError("expected the fields format, revision, head and entries")
    entries = []
    for name, size, digest in document["entries"]:
        if type(size) is not int or size < 0 or not is_digest(digest):
            raise ValueError(f"{name!r:.90}: expected a size and a digest")
        check_name(name)
        entries.append(Entry(name, size, digest))
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names) or names != sorted(names, key=place_of):
        raise ValueError("expected every name once, in order")
    return Index(document["revision"], Head.parse(document["head"]), tuple(entries))


def check_name(name: object) -> None:
    """Raises ValueError unless `name` is a place that an export may have, and that stays where it belongs."""
    if not isinstance(name, str):
        raise ValueError(f"expected a name, found {name!r:.90}")
    if _ARTIFACT.fullmatch(name) or _TABLE.fullmatch(name):
        return
    root, _, path = name.partition("/")
    parts = PurePosixPath(path).parts
    plain = path.isprintable() and "\\" not in path and path == "/".join(parts) and path not in ("", ".")
    hidden = {".quire", ".git"} & {part.lower() for part in parts}
    if root != "project" or not plain or ".." in parts or path.startswith("/") or hidden or len(path) > LONGEST_PATH:
        raise ValueError(f"{name!r:.90} is no place in an export")


def place_of(name: str) -> tuple[int, str, bool, str]:
    """Sorts entries: the project, the registry, then artifacts, each with its manifest first."""
    root, _, rest = name.partition("/")
    directory, _, file = rest.partition("/") if root == "artifacts" else (rest, "", "")
    return (("project", "registry", "artifacts").index(root), directory, file != "manifest.json", file)


def artifact_of(name: str) -> tuple[str, str] | None:
    """The digest and the file name of an entry of an artifact."""
    found = _ARTIFACT.fullmatch(name)
    return (found[1].replace("-", ":"), found[2]) if found else None
