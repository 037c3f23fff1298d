"""The local disk as a tier: how much of it artifacts may take, and which of them goes when another one needs the room.

What goes must be in the object store, leased by nobody, and not pinned. Of that, what was used least for its age goes
first: uses divided by the seconds since the last one. Size plays no part, because what bringing an artifact back costs
is in proportion to its size, and so is what its going gives. An artifact's uses are the bytes of a file, and its last
one is that file's time: processes add to it without a lock, and a crash loses nothing.

    <root>/shared/<algorithm>-<hex>    the artifact is in the object store, and was leased as often as this has bytes
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

from quire.errors import ArtifactNotFound, StoreError, StoreFull
from quire.store.disk import DiskStore
from quire.store.locks import locked

RECENT = 1.0  # seconds: nothing counts as used more recently than this


class DiskRoom:
    """Any number of processes may share one disk."""

    def __init__(self, disk: DiskStore, max_bytes: int, pinned: Callable[[], Collection[str]]) -> None:
        """`max_bytes`: 0 for as much as there is. `pinned`: digests that stay, asked for when something must go."""
        self._disk = disk
        self._max_bytes = max_bytes
        self._pinned = pinned
        self._shared = disk.root / "shared"

    def note(self, digest: str) -> None:
        """Mutates: the artifact is in the object store as well, and is used now."""
        try:
            self._shared.mkdir(parents=True, exist_ok=True)
            with open(self._place(digest), "ab") as file:
                file.write(b".")
        except OSError:
            # Without the note the artifact stays on the disk until `quire gc`; nothing wrong is answered.
            return

    def used(self, digest: str) -> None:
        """Mutates: count a use of an artifact, if it is in the object store as far as is known here."""
        if self._place(digest).exists():
            self.note(digest)

    def forget(self, digest: str) -> None:
        """Mutates: the artifact is not in the object store any more."""
        try:
            self._place(digest).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError.from_os(error, self._place(digest)) from error

    def admit(self, size: int, what: str, reserve: Callable[[Path], None]) -> Path:
        """Mutates: make room for `size` bytes, and give a staged directory in which `reserve` has taken them.

        Raises:
            StoreFull: naming what stands in the way. StoreUnwritable, StoreError.
        """
        try:
            self._shared.mkdir(parents=True, exist_ok=True)
            # Under one lock until the bytes are taken, or two processes would make the same room.
            with locked(self._shared):
                self._make_room(size, what)
                staged = self._disk.stage()
                try:
                    reserve(staged)
                except BaseException:
                    self._disk.discard(staged)
                    raise
                return staged
        except OSError as error:
            raise StoreError.from_os(error, self._shared) from error

    def trim(self) -> None:
        """Mutates: give back what is beyond the limit, as far as it may go."""
        if self._max_bytes and self._shared.is_dir():
            try:
                with locked(self._shared):
                    self._evict(self._taken() - self._max_bytes)
            except OSError as error:
                raise StoreError.from_os(error, self._shared) from error

    def _make_room(self, size: int, what: str) -> None:
        self._disk.sweep()  # what a killed process has left takes room too
        if not self._max_bytes:
            return
        taken = self._taken()
        left = self._evict(taken + size - self._max_bytes) if size <= self._max_bytes else size
        if left > 0:
            raise StoreFull(
                f"{what} takes {size:,} bytes; of store.disk_bytes = {self._max_bytes:,}, {taken:,} are taken by "
                "artifacts, and none of them can go that would make enough room: they are in use, pinned or not in the "
                "object store",
                hint="raise store.disk_bytes, lower pool.max_bytes, or unpin versions",
            )

    def _evict(self, excess: int) -> int:
        """Remove what may go until `excess` bytes are gone; the bytes that are missing still."""
        if excess <= 0:
            return 0
        pinned = self._pinned()
        for _, digest in sorted(self._worth(digest) for digest in self._disk.digests()):
            if digest in pinned or not self._place(digest).exists():
                continue
            try:
                size = self._disk.size(digest)
                gone = self._disk.delete(digest)
            except ArtifactNotFound:
                continue
            if gone:
                self.forget(digest)
                excess -= size
                if excess <= 0:
                    break
        return excess

    def _worth(self, digest: str) -> tuple[float, str]:
        try:
            noted = self._place(digest).stat()
        except FileNotFoundError:
            return (0.0, digest)
        return (noted.st_size / max(RECENT, time.time() - noted.st_mtime), digest)

    def _taken(self) -> int:
        total = 0

        def refused(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # else deleted or renamed meanwhile
                raise StoreError.from_os(error, self._disk.root) from error

        for place in (self._disk.root / "artifacts", self._disk.root / "tmp"):
            for folder, _, files in os.walk(place, onerror=refused):
                for name in files:
                    try:
                        total += os.lstat(os.path.join(folder, name)).st_size
                    except FileNotFoundError:  # deleted or renamed meanwhile
                        continue
        return total

    def _place(self, digest: str) -> Path:
        return self._shared / digest.replace(":", "-")
