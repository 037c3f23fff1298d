"""An export in a tar file.

The reader is our own because it reads what anybody may have sent: plain files with plain headers and nothing else, so
that there are no links, devices or extended headers to be careful about.
"""

from __future__ import annotations

import os
import secrets
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from quire.artifact.space import sync_directory
from quire.backup.contract import CUT, PIECE, Read, Source, Target, reporting
from quire.backup.index import INDEX, LIMIT, Entry, Index
from quire.errors import BackupInvalid

BLOCK = 512


class TarTarget(Target):
    def __init__(self, path: Path) -> None:
        self._path, self.place = path, str(path)
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._part, "xb")  # noqa: SIM115  # closed by finish or discard

    def start(self, index: Index) -> None:
        data = index.to_bytes()
        with reporting(self._path):
            self._write(INDEX, len(data), [data])

    def add(self, entry: Entry, read: Read) -> None:
        with reporting(self._path):
            self._write(entry.name, entry.bytes, read())

    def finish(self) -> None:
        with reporting(self._path):
            self._file.write(bytes(2 * BLOCK))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.rename(self._part, self._path)
            sync_directory(self._path.parent)

    def discard(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _write(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        header = tarfile.TarInfo(name)  # time, owner and group are 0: the same content gives the same file
        header.size = size
        try:
            self._file.write(header.tobuf(tarfile.USTAR_FORMAT))
        except ValueError as error:
            raise BackupInvalid(f"{name}: {error}: a tar file cannot hold it", hint="export to a directory") from error
        for piece in pieces:
            self._file.write(piece)
        self._file.write(bytes(-size % BLOCK))


class TarSource(Source):
    def __init__(self, path: Path) -> None:
        self._path, self.place = path, str(path)
        with reporting(path):
            self._file = open(path, "rb")  # noqa: SIM115  # closed by close
        self._left = 0

    def index(self) -> Index:
        name, size = self._header()
        if name != INDEX or size > LIMIT:
            raise BackupInvalid(f"{self._path}: expected {INDEX} first, found {name!r:.90}", hint=CUT)
        return Index.from_bytes(b"".join(self._content(size)))

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        name, size = self._header()
        if (name, size) != (entry.name, entry.bytes):
            raise BackupInvalid(
                f"{self._path}: expected {entry.name} of {entry.bytes:,} bytes, found {name!r:.90} of {size:,}",
                hint=CUT,
            )
        yield from self._content(size)

    def end(self) -> None:
        if any(self._read(2 * BLOCK)) or self._file.read(1):
            raise BackupInvalid(f"{self._path}: expected the end after the last file, found more", hint=CUT)

    def close(self) -> None:
        self._file.close()

    def _header(self) -> tuple[str, int]:
        block = self._read(BLOCK)
        try:
            if block[257:263] != b"ustar\0" or block[156:157] != b"0":
                raise ValueError("it is no plain file")
            if int(block[148:156].split(b"\0")[0], 8) != sum(block) - sum(block[148:156]) + 8 * 32:
                raise ValueError("its checksum is wrong")
            name, prefix = (block[a:b].split(b"\0")[0].decode() for a, b in ((0, 100), (345, 500)))
            return (f"{prefix}/{name}" if prefix else name), int(block[124:136].split(b"\0")[0], 8)
        except ValueError as error:
            at = self._file.tell() - BLOCK
            raise BackupInvalid(f"{self._path}: a bad header at byte {at:,}: {error}", hint=CUT) from error

    def _content(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            piece = self._read(min(left, PIECE))
            left -= len(piece)
            yield piece
        self._read(-size % BLOCK)

    def _read(self, count: int) -> bytes:
        with reporting(self._path):
            data = self._file.read(count)
        if len(data) != count:
            raise BackupInvalid(f"{self._path} ends at byte {self._file.tell():,}, in the middle", hint=CUT)
        return data
