"""An export in a directory."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from quire.artifact.space import sync_directory
from quire.backup.contract import CUT, PIECE, Read, Source, Target, reporting
from quire.backup.index import INDEX, LIMIT, Entry, Index
from quire.errors import BackupInvalid, StoreError

_NOT_WHOLE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EIO)


class DirectoryTarget(Target):
    def __init__(self, path: Path) -> None:
        self._path, self.place = path, str(path)
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")

    def start(self, index: Index) -> None:
        with reporting(self._path):
            self._part.mkdir(parents=True)
        data = index.to_bytes()
        self.add(Entry(INDEX, len(data), ""), lambda: [data])

    def add(self, entry: Entry, read: Read) -> None:
        with reporting(self._path):
            file = self._part / entry.name
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "xb") as opened:
                opened.writelines(read())
                opened.flush()
                os.fsync(opened.fileno())

    def finish(self) -> None:
        with reporting(self._path):
            os.rename(self._part, self._path)  # over an empty directory too
            sync_directory(self._path.parent)

    def discard(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)


class DirectorySource(Source):
    def __init__(self, path: Path) -> None:
        self._path, self.place = path, str(path)

    def index(self) -> Index:
        with reporting(self._path), open(self._open(INDEX), "rb") as file:
            return Index.from_bytes(file.read(LIMIT + 1)[:LIMIT])

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        with reporting(self._path), open(self._open(entry.name), "rb") as file:
            if (found := os.fstat(file.fileno()).st_size) != entry.bytes:
                raise BackupInvalid(
                    f"{self._path}/{entry.name}: expected {entry.bytes:,} bytes, found {found:,}", hint=CUT
                )
            while piece := file.read(PIECE):
                yield piece

    def end(self) -> None:
        """Files that the index does not name are not read."""

    def _open(self, name: str) -> int:
        """Links are not followed, in whatever part of the path."""
        path, at = self._path, os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *folders, last = name.split("/")
            for folder in folders:
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                os.close(at)
                at, path = inner, path / folder
            return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        except OSError as error:
            if error.errno not in _NOT_WHOLE:
                raise StoreError.from_os(error, path / last) from error
            raise BackupInvalid(f"{path}: expected {last}, {error.strerror}", hint=CUT) from error
        finally:
            os.close(at)
