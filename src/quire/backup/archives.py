"""Where an export lies: a tar file, a directory, or below a URL. Each is visible as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from quire.artifact import digest_bytes
from quire.backup.contract import CUT, Source, Target
from quire.backup.directory_archive import DirectorySource, DirectoryTarget
from quire.backup.index import Entry
from quire.backup.object_archive import ObjectsSource, ObjectsTarget
from quire.backup.tar_archive import TarSource, TarTarget
from quire.errors import BackupInvalid, InvalidSetting, TargetNotEmpty
from quire.settings.addresses import STORES
from quire.store.objects import Objects


def open_target(place: str, *, endpoint: str = "", timeout: float = 10.0) -> Target:
    """A place to export to: ``FILE.tar``, a directory, or an object store's URL. TargetNotEmpty, InvalidSetting."""
    if "://" in place:
        return ObjectsTarget(Objects(place, endpoint=endpoint, timeout=timeout))
    path = Path(place).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise TargetNotEmpty(f"expected nothing at {path}, found something", hint="export to another place")
    return TarTarget(path) if path.suffix == ".tar" else DirectoryTarget(path)


def open_source(place: str, *, endpoint: str = "", timeout: float = 10.0) -> Source:
    """An export at a place that `open_target` knows. BackupInvalid, InvalidSetting."""
    if "://" in place:
        if place.partition("://")[0] not in STORES:
            raise InvalidSetting(f"expected an export's file, directory or URL, found {place!r:.90}")
        return ObjectsSource(Objects(place, endpoint=endpoint, timeout=timeout))
    path = Path(place).absolute()
    if path.is_dir():
        return DirectorySource(path)
    if path.is_file():
        return TarSource(path)
    raise BackupInvalid(f"expected an export at {path}, found none", hint="give its file, directory or URL")


def compared(entry: Entry, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces` as they come; BackupInvalid at the end if they are not what the index says."""
    hasher, count = blake3(), 0
    for piece in pieces:
        hasher.update(piece)
        count += len(piece)
        yield piece
    found = f"b3:{hasher.hexdigest()}"
    if (count, found) != (entry.bytes, entry.digest):
        raise BackupInvalid(
            f"{entry.name}: expected {entry.bytes:,} bytes of {entry.digest}, found {count:,} of {found}", hint=CUT
        )


def entry_of(name: str, data: bytes) -> Entry:
    return Entry(name, len(data), digest_bytes(data))
