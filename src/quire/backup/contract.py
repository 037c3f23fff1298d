"""What an export is written to and read from, whatever it lies in."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from quire.backup.index import Entry, Index
from quire.errors import StoreError

Read = Callable[[], Iterable[bytes]]
PIECE = 4 << 20
CUT = "take another copy of the export"


class Target(ABC):
    """An export in the making. Leaving the `with` block without `finish` takes back what was written."""

    place: str  # as records of it say

    @abstractmethod
    def start(self, index: Index) -> None: ...

    @abstractmethod
    def add(self, entry: Entry, read: Read) -> None:
        """The next entry of the index, in order. `read` gives its bytes, and again when they have to be sent again."""

    @abstractmethod
    def finish(self) -> None:
        """Make it visible."""

    @abstractmethod
    def discard(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class Source(ABC):
    """An export that is read once, from the front."""

    place: str  # as records of it say

    @abstractmethod
    def index(self) -> Index: ...

    @abstractmethod
    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of the next entry, exactly as many as the index says. BackupInvalid for any other, or none."""

    @abstractmethod
    def end(self) -> None:
        """After the last entry: raises BackupInvalid if more comes."""

    def close(self) -> None:  # noqa: B027  # most have nothing to let go of
        """Let go of it. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Name what the file system refuses: StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError.from_os(error, path) from error
