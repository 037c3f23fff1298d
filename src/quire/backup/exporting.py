"""`quire export`: registry, artifacts and files of a project as of one moment, while it goes on serving."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from quire.artifact import digest_bytes, digest_file
from quire.backup.archives import compared, entry_of
from quire.backup.contract import PIECE, Target
from quire.backup.files import project_files
from quire.backup.index import Entry, Index, artifact_of, place_of
from quire.errors import ArtifactError, ArtifactNotFound, BackupInvalid, ChecksumMismatch, QuireError, StoreError
from quire.registry import AuditEvent, actor, dump_registry, recordable

if TYPE_CHECKING:
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.store import Store

log = logging.getLogger(__name__)

LONGEST_WHY = 400  # characters of an error, in the audit log


@dataclass(slots=True)
class Exported:
    """What an export holds. `digest`: of its index, and so of everything.

    `left_out`: files of the project that are outside of it or cannot be read."""

    versions: int
    artifacts: int
    files: int
    bytes: int
    head: str
    digest: str
    left_out: list[str] = field(default_factory=list)


def export_project(
    settings: Settings,
    registry: Registry,
    store: Store,
    target: Target,
    tell: Callable[[int, int], None] = lambda done, total: None,
    *,
    by: str | None = None,
) -> Exported:
    """Write everything to `target`, every byte compared with its digest on the way. Mutates nothing else but the audit
    log, which has one record of it: that it is complete, before anybody can see it as an export, or how it failed.

    `tell`: bytes so far, and of all. `by`: who exports; default: whoever is at this machine.

    Raises:
        ArtifactError, ArtifactNotFound: an artifact is damaged or gone. InvalidSetting: quire.toml holds a password.
        StoreError, RegistryError. Then nothing is left at the target.
    """
    files, left_out = project_files(settings)
    with tempfile.TemporaryDirectory(prefix="quire-export-") as spool:
        entries = [Entry(f"project/{name}", path.stat().st_size, digest_file(path)) for name, path in files.items()]
        rows: dict[str, Path] = {}

        def write(table: str, lines: Iterable[bytes]) -> None:
            rows[table] = Path(spool) / table
            entries.append(_spool(rows[table], f"registry/{table}.jsonl", lines))

        dumped = dump_registry(registry, write)
        records = {record.digest: record for record in dumped.records}
        entries += [entry for record in records.values() for entry in _artifact_entries(record)]
        index = Index(dumped.revision, dumped.head, tuple(sorted(entries, key=lambda entry: place_of(entry.name))))
        event = _event(by or actor(), target.place, index, len(dumped.records))
        done = 0
        try:
            target.start(index)
            with _Leases(store) as leases:
                for entry in index.entries:
                    target.add(entry, partial(_read, entry, files, rows, leases))
                    done += entry.bytes
                    tell(done, index.size)
        except BaseException as error:
            _record_failure(registry, event, done, error)
            raise
        registry.audit.record([event])
        target.finish()
    return Exported(len(dumped.records), len(records), len(files), index.size, str(dumped.head), event.digest, left_out)


def _event(who: str, place: str, index: Index, versions: int) -> AuditEvent:
    return AuditEvent(
        kind="project.export",
        who=who,
        what=place,
        why="a copy was asked for",
        digest=digest_bytes(index.to_bytes()),
        details={"head": str(index.head), "versions": versions, "bytes": index.size, "outcome": "complete"},
    )


def _record_failure(registry: Registry, event: AuditEvent, done: int, error: BaseException) -> None:
    """Record, in place of `event`, that the export ended with `error` after `done` bytes. Logs a record that cannot be
    written, so that the caller gets `error`."""
    why = error.message if isinstance(error, QuireError) else str(error) or "it was interrupted"
    details = {**event.details, "bytes": done, "outcome": "failed"}
    try:
        registry.audit.record([replace(event, why=recordable(why[:LONGEST_WHY]), details=details)])
    except QuireError as unwritten:
        log.error("the failed export to %s is not in the audit log: %s", event.what, unwritten.message)


def _artifact_entries(record: VersionRecord) -> Iterator[Entry]:
    place = f"artifacts/{record.digest.replace(':', '-')}"
    manifest = entry_of(f"{place}/manifest.json", record.manifest.encode())
    if manifest.digest != record.digest:
        raise BackupInvalid(f"the registry has another manifest of {record.ref}", hint="run `quire fsck`")
    yield manifest
    for file in json.loads(record.manifest)["files"]:
        yield Entry(f"{place}/{file['name']}", file["bytes"], file["digest"])


class _Leases:
    """A lease of the artifact that is being read, so that nobody evicts or deletes it meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digest = ""
        self._directory = Path()
        self._release: Callable[[], None] = lambda: None

    def directory(self, digest: str) -> Path:
        if digest != self._digest:
            self._release()
            self._digest, self._release = "", lambda: None
            try:
                lease = self._store.lease(digest)
            except ArtifactNotFound as error:
                raise ArtifactNotFound(
                    f"{error.message}: it is gone or was removed meanwhile",
                    hint="run `quire fsck --repair`, then export again",
                ) from error
            self._digest, self._directory, self._release = digest, lease.directory, lease.release
        return self._directory

    def __enter__(self) -> _Leases:
        return self

    def __exit__(self, *_: object) -> None:
        self._release()


def _read(entry: Entry, files: dict[str, Path], rows: dict[str, Path], leases: _Leases) -> Iterator[bytes]:
    root, _, rest = entry.name.partition("/")
    artifact = artifact_of(entry.name)
    if artifact:
        path = leases.directory(artifact[0]) / artifact[1]
    else:
        path = files[rest] if root == "project" else rows[rest.removesuffix(".jsonl")]
    try:
        yield from compared(entry, _pieces(path))
    except BackupInvalid as error:
        if artifact:
            raise ChecksumMismatch(error.message, hint="run `quire fsck --repair`, then export again") from error
        raise BackupInvalid(f"{path} changed while it was exported", hint="export again") from error


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise ArtifactError.from_os(error, str(path), hint="run `quire fsck`") from error


def _spool(path: Path, name: str, lines: Iterable[bytes]) -> Entry:
    hasher, size = blake3(), 0
    try:
        with open(path, "xb") as file:
            for line in lines:
                hasher.update(line)
                size += file.write(line)
    except OSError as error:
        raise StoreError.from_os(error, path) from error
    return Entry(name, size, f"b3:{hasher.hexdigest()}")
