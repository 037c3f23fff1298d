"""`quire import`: a project from an export, into whatever database and store the settings name. All of it or nothing.

The order makes it so: rows and files are read and compared first, artifacts are put into the store, where nobody refers
to them yet, files are put in their places, and the registry comes last, in one transaction. Whoever was killed in
between begins again, and what is there already with the same bytes is taken as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quire.artifact import digest_bytes, digest_file, open_artifact
from quire.backup.archives import compared
from quire.backup.contract import Source
from quire.backup.files import settings_in
from quire.backup.index import Entry, Index, artifact_of
from quire.compiler import build_lock
from quire.errors import ArtifactError, BackupInvalid, RecordInvalid, StoreError, TargetNotEmpty
from quire.registry import AuditEvent, Dumped, actor, load_registry
from quire.registry.moving import is_empty
from quire.settings import PROJECT_FILE
from quire.store import open_store

if TYPE_CHECKING:
    from quire.settings import Settings
    from quire.store import Store

LONGEST_ROW = 1 << 28  # bytes: the weights of a large route table, as text


@dataclass(frozen=True, slots=True)
class Imported:
    """What came. `kept_settings`: the project had a quire.toml of its own, and has it still."""

    settings: Settings
    artifacts: int
    files: int
    bytes: int
    head: str
    kept_settings: bool


def import_project(
    source: Source,
    root: Path,
    *,
    replace: bool = False,
    tell: Callable[[int, int], None] = lambda done, total: None,
    by: str | None = None,
) -> Imported:
    """Make the project in `root`, or what is left of it to make. Mutates the directory, the registry and the store.

    Args:
        replace: give up the registry that is there, and files that differ.
        tell: bytes so far, and of all.
        by: who imports, for the audit log; default: whoever is at this machine.

    Raises:
        BackupInvalid, ArtifactError, AuditBroken: the export is not whole. TargetNotEmpty. InvalidSetting. BuildBusy.
        StoreError, RegistryError. Then nothing is changed.
    """
    index = source.index()
    made_root = not root.exists()
    work: Path | None = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(".quire-import-*"):  # by one that was killed
            shutil.rmtree(left)
        work = Path(tempfile.mkdtemp(prefix=".quire-import-", dir=root))
        _check_room(index, root)
        return _Import(source, index, root, work, replace, tell, by or actor()).run()
    except OSError as error:
        raise StoreError.from_os(error, root) from error
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)
        if made_root and not any(root.iterdir()):
            root.rmdir()


class _Import:
    def __init__(
        self,
        source: Source,
        index: Index,
        root: Path,
        work: Path,
        replace: bool,
        tell: Callable[[int, int], None],
        by: str,
    ) -> None:
        self._by = by
        self._source, self._index, self._root, self._work = source, index, root, work
        self._replace, self._tell = replace, tell
        self._done = 0
        self._undo: list[Callable[[], object]] = []

    def run(self) -> Imported:
        entries = self._index.entries
        plain = [entry for entry in entries if artifact_of(entry.name) is None]
        for entry in plain:
            self._spool(entry)
        settings = settings_in(self._work / "project", self._root)
        made_state = not settings.state.exists()
        with build_lock(settings.state):  # or `quire gc` would take what is brought for orphans
            try:
                if not self._replace and not is_empty(settings.registry_place):
                    raise TargetNotEmpty(
                        "expected an empty registry to import into, found one with a history",
                        hint="import into another project or database; --replace gives up all that is in this one",
                    )
                self._check_files(plain)
                digests = self._bring_artifacts(open_store(settings), entries)
                self._source.end()
                self._check_complete(digests)
                kept = self._place_files(plain)
                self._load(settings, [entry.name for entry in plain if entry.name.startswith("registry/")])
            except BaseException:
                for undo in reversed(self._undo):
                    undo()
                if made_state:
                    shutil.rmtree(settings.state, ignore_errors=True)
                raise
        files = sum(entry.name.startswith("project/") for entry in plain)
        return Imported(settings, len(digests), files, self._index.size, str(self._index.head), kept)

    def _spool(self, entry: Entry) -> None:
        path = self._work / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.writelines(compared(entry, self._told(self._source.pieces(entry))))
            file.flush()
            os.fsync(file.fileno())

    def _told(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self._done += len(piece)
            self._tell(self._done, self._index.size)

    def _bring_artifacts(self, store: Store, entries: tuple[Entry, ...]) -> list[str]:
        of: dict[str, list[tuple[Entry, str]]] = {}
        for entry in entries:
            if named := artifact_of(entry.name):
                of.setdefault(named[0], []).append((entry, named[1]))
        for digest, files in of.items():
            self._bring(store, digest, files)
        return list(of)

    def _bring(self, store: Store, digest: str, files: list[tuple[Entry, str]]) -> None:
        there = store.has(digest)
        staged = store.stage()
        try:
            for entry, name in files:
                with open(staged / name, "xb") as file:
                    file.writelines(compared(entry, self._told(self._source.pieces(entry))))
                    os.fchmod(file.fileno(), 0o444)
            with open_artifact(staged, expect_digest=digest) as artifact:
                artifact.verify()
        except ArtifactError as error:
            store.discard(staged)
            raise BackupInvalid(f"{digest}: {error.message}", hint="take another copy of the export") from error
        except BaseException:
            store.discard(staged)
            raise
        store.commit(staged, digest)
        if not there:
            self._undo.append(lambda: store.delete(digest))
        store.share(digest)

    def _check_files(self, entries: list[Entry]) -> None:
        for name, entry in _project(entries):
            place = self._root / name
            for above in place.relative_to(self._root).parents:
                if (self._root / above).is_symlink():
                    raise TargetNotEmpty(f"expected a directory at {self._root / above}, found a link", hint=_ELSEWHERE)
            if place.is_symlink() or (place.exists() and not place.is_file()):
                raise TargetNotEmpty(f"expected a file or nothing at {place}, found something else", hint=_ELSEWHERE)
            differs = place.exists() and digest_file(place) != entry.digest
            if differs and name != PROJECT_FILE and not self._replace:
                raise TargetNotEmpty(f"expected nothing at {place}, or the same bytes", hint=_ELSEWHERE)

    def _place_files(self, entries: list[Entry]) -> bool:
        kept = False
        for name, entry in _project(entries):
            place = self._root / name
            if place.exists() and (name == PROJECT_FILE or digest_file(place) == entry.digest):
                kept = kept or digest_file(place) != entry.digest
                continue
            self._make_folders(place.parent)
            before = self._work / "before" / name
            if place.exists():
                before.parent.mkdir(parents=True, exist_ok=True)
                os.rename(place, before)
                self._undo.append(lambda b=before, p=place: os.replace(b, p))  # type: ignore[misc]
            else:
                self._undo.append(lambda p=place: p.unlink(missing_ok=True))  # type: ignore[misc]
            os.rename(self._work / entry.name, place)
        return kept

    def _check_complete(self, digests: list[str]) -> None:
        """Whether every version has its artifact: what the registry names and nobody has can answer nothing."""
        known = set(digests)
        rows = self._work / "registry" / "module_versions.jsonl"
        if not rows.exists():
            raise BackupInvalid("the export has no registry", hint="take another copy of the export")
        with open(rows, "rb") as file:
            for line in file:
                try:
                    digest = json.loads(line)["digest"]
                except (ValueError, TypeError, KeyError) as error:
                    raise BackupInvalid(f"module_versions does not read: {error}", hint="take another copy") from error
                if digest not in known:
                    raise BackupInvalid(f"the export has no artifact {digest!r:.90}", hint="take another copy of it")

    def _make_folders(self, folder: Path) -> None:
        missing = [above for above in (folder, *folder.parents) if not above.exists()]
        for above in reversed(missing):
            above.mkdir()
            self._undo.append(above.rmdir)

    def _load(self, settings: Settings, names: list[str]) -> None:
        tables = {name.removeprefix("registry/").removesuffix(".jsonl"): self._work / name for name in names}

        def rows(table: str) -> Iterator[bytes]:
            with open(tables[table], "rb") as file:
                while line := file.readline(LONGEST_ROW):
                    yield line

        dumped = Dumped(self._index.revision, self._index.head, ())
        settings.state.mkdir(parents=True, exist_ok=True)
        try:
            load_registry(
                settings.registry_place,
                dumped,
                tables,
                rows,
                event=self._event(),
                replace=self._replace,
                heads=settings.state,
            )
        except RecordInvalid as error:
            raise BackupInvalid(
                f"the registry of the export contradicts itself: {error.message}",
                hint="take another copy of the export",
            ) from error

    def _event(self) -> AuditEvent:
        return AuditEvent(
            kind="project.import",
            who=self._by,
            what=self._source.place,
            why="what was there was given up for it" if self._replace else "a registry was made of it",
            digest=digest_bytes(self._index.to_bytes()),
            details={"head": str(self._index.head), "bytes": self._index.size, "outcome": "complete"},
        )


_ELSEWHERE = "import into another directory, or move it away; --replace writes over files that differ"


def _project(entries: list[Entry]) -> Iterator[tuple[str, Entry]]:
    for entry in entries:
        root, _, name = entry.name.partition("/")
        if root == "project":
            yield name, entry


def _check_room(index: Index, root: Path) -> None:
    free = shutil.disk_usage(root).free
    if index.size > free:
        raise StoreError.from_os(OSError(28, "No space left on device"), root, needed=index.size)
