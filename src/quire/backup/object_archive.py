"""An export below a prefix of an object store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from quire.backup.contract import CUT, PIECE, Read, Source, Target
from quire.backup.index import INDEX, LIMIT, Entry, Index
from quire.errors import BackupInvalid, StoreError, TargetNotEmpty
from quire.store.objects import PART, Objects


class ObjectsTarget(Target):
    """The index goes last: without it there is no export. What an interrupted one left is written over."""

    def __init__(self, objects: Objects) -> None:
        if objects.read(INDEX, 0, 1) is not None:
            raise TargetNotEmpty(f"expected no export at {objects.url}, found one", hint="export to another prefix")
        self._objects, self.place = objects, objects.url
        self._index = b""
        self._sent: list[str] = []

    def start(self, index: Index) -> None:
        self._index = index.to_bytes()

    def add(self, entry: Entry, read: Read) -> None:
        self._sent.append(entry.name)
        if entry.bytes <= PART:
            self._objects.put(entry.name, b"".join(read()))
        else:
            self._objects.put_parts(entry.name, lambda: iter(read()), entry.digest)

    def finish(self) -> None:
        self._objects.put(INDEX, self._index)
        self._sent.clear()

    def discard(self) -> None:
        with contextlib.suppress(StoreError):  # whatever ended the export has been said already
            if self._objects.read(INDEX, 0, 1) is None:  # else another export of the same name has ended well
                self._objects.delete(self._sent)


class ObjectsSource(Source):
    def __init__(self, objects: Objects) -> None:
        self._objects, self.place = objects, objects.url

    def index(self) -> Index:
        data = self._objects.read(INDEX, 0, LIMIT)
        if data is None:
            raise BackupInvalid(f"expected an export at {self._objects.url}, found none", hint="check the URL")
        return Index.from_bytes(data)

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        for at in range(0, max(entry.bytes, 1), PIECE):
            end = min(at + PIECE, entry.bytes)
            data = self._objects.read(entry.name, at, end) if entry.bytes else b""
            if data is None or len(data) != end - at:
                raise BackupInvalid(
                    f"{self._objects.url}/{entry.name}: expected {entry.bytes:,} bytes, found other", hint=CUT
                )
            yield data

    def end(self) -> None:
        """Objects that the index does not name are not read."""
