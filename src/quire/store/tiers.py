"""The local disk in front of an object store: compile here, send there, restore anywhere.

lease     from the disk; what is not there is fetched first, by one process for all that wait
commit    to the disk; nothing is sent before `share`, which a publication calls before anything goes live
delete    from both
evicted   from the disk alone, and only what the object store has (quire.store.room)
set aside a damaged copy, until another one has come from the object store
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quire.errors import ArtifactError, ArtifactNotFound, QuireError, StoreDenied, StoreError, StoreUnreachable
from quire.store.base import Lease, Store
from quire.store.disk import DiskStore
from quire.store.fetching import fetch_files, reserve
from quire.store.locks import is_at, lock_exclusive
from quire.store.remote import Remote
from quire.store.room import DiskRoom

REMEMBERED = 2.0  # seconds: who asks again so soon after a failure gets the same answer at once
LEASE_TRIES = 3  # another process may evict what was just fetched


class TieredStore(Store):
    """Thread-safe. What lies on the disk is leased without asking the object store anything."""

    def __init__(
        self,
        disk: DiskStore,
        remote: Remote,
        *,
        disk_bytes: int = 0,
        pinned: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        """`disk_bytes`: 0 for as much as there is. `pinned`: digests of what stays on the disk."""
        self._disk = disk
        self.remote: Remote = remote
        self._room = DiskRoom(disk, disk_bytes, pinned)
        self._arriving = disk.root / "arriving"
        self._failed: dict[str, tuple[float, QuireError]] = {}
        self._lock = threading.Lock()

    def stage(self) -> Path:
        return self._disk.stage()

    def commit(self, staged: Path, digest: str) -> Path:
        return self._disk.commit(staged, digest)

    def discard(self, staged: Path) -> None:
        self._disk.discard(staged)

    def locate(self, digest: str) -> Path:
        return self._disk.locate(digest)

    def check(self) -> None:
        self._disk.check()  # what is here answers while the object store is out of reach

    def digests(self) -> list[str]:
        return self._disk.digests()

    def strays(self) -> list[Path]:
        return self._disk.strays()

    def remove_stray(self, path: Path) -> None:
        self._disk.remove_stray(path)

    def has(self, digest: str) -> bool:
        return self._disk.has(digest) or self.remote.has(digest)

    def size(self, digest: str) -> int:
        with suppress(ArtifactNotFound):
            return self._disk.size(digest)
        manifest, data = self.remote.manifest(digest)
        return len(data) + sum(entry.bytes for entry in manifest.files)

    def in_use(self, digest: str) -> bool:
        return self._disk.has(digest) and self._disk.in_use(digest)

    def delete(self, digest: str) -> bool:
        here = self._disk.has(digest)
        if here and not self._disk.delete(digest):
            return False
        self._room.forget(digest)
        if not here and not self.remote.has(digest):
            raise ArtifactNotFound(
                f"expected an artifact {digest!r:.90}, found it neither here nor in {self.remote.url}"
            )
        self.remote.delete(digest)
        self._disk.clear_quarantine(digest)
        return True

    def begin_removal(self, digest: str) -> None:
        self._disk.begin_removal(digest)

    def finish_removal(self, digest: str) -> bool:
        if self._disk.has(digest) and not self._disk.delete(digest):
            return False
        self._room.forget(digest)
        self.remote.delete(digest)  # what is left, with its manifest or without
        self._disk.clear_quarantine(digest)
        return self._disk.finish_removal(digest)

    def cancel_removal(self, digest: str) -> None:
        self._disk.cancel_removal(digest)

    def removals(self) -> list[str]:
        return self._disk.removals()

    def drop_copy(self, digest: str) -> bool:
        return self._disk.delete(digest)

    def set_aside(self, damaged: Lease) -> bool:
        digest = damaged.directory.name.replace("-", ":")
        with self._alone(digest):  # or one process would put aside what another has just fetched
            try:
                if self.remote.problem(digest):
                    return False
            except (StoreUnreachable, StoreDenied):
                return False  # better a damaged copy than none: it may be that of a version that nobody can build
            self._disk.quarantine(damaged)
        return True

    def share(self, digest: str, tell: Callable[[int], None] = lambda _: None) -> int:
        try:
            lease = self._disk.lease(digest)
        except ArtifactNotFound:
            if problem := self.remote.problem(digest):
                raise ArtifactNotFound(problem, hint="build it again, or push it from a machine that has it") from None
            return 0
        with lease:
            sent = self.remote.send(digest, lease.directory, tell)
        self._room.note(digest)
        self._room.trim()
        return sent.bytes

    def lease(self, digest: str, tell: Callable[[int], None] = lambda _: None) -> Lease:
        """As `Store.lease`, fetching first what is not on the disk. `tell`: bytes as they arrive.

        Raises also, with nothing left on the disk: StoreUnreachable, StoreDenied, StoreFull, and ArtifactError for an
        object store that has not the bytes which the digest names.
        """
        for _ in range(LEASE_TRIES):
            try:
                lease = self._disk.lease(digest)
            except ArtifactNotFound:
                self._fetch(digest, tell)
                continue
            self._room.used(digest)
            return lease
        raise StoreError(
            f"{digest} was evicted {LEASE_TRIES} times before it could be leased", hint="raise store.disk_bytes"
        )

    def sweep(self) -> list[Path]:
        return self._disk.sweep()

    def _fetch(self, digest: str, tell: Callable[[int], None]) -> None:
        self._check_failed(digest)
        with self._alone(digest):
            if self._disk.has(digest):
                return
            self._check_failed(digest)
            try:
                self._bring(digest, tell)
            except (ArtifactError, StoreUnreachable, StoreDenied) as error:
                with self._lock:
                    self._failed["" if isinstance(error, StoreUnreachable) else digest] = (time.monotonic(), error)
                raise

    def _bring(self, digest: str, tell: Callable[[int], None]) -> None:
        manifest, data = self.remote.manifest(digest)
        size = len(data) + sum(entry.bytes for entry in manifest.files)
        name = f"{manifest.module_id}@{manifest.version}"
        staged = self._room.admit(size, name, lambda place: reserve(manifest, place))
        try:
            fetch_files(self.remote, digest, manifest, data, staged, tell)
            self._disk.commit(staged, digest)
            self._disk.clear_quarantine(digest)
        except BaseException:
            self._disk.discard(staged)
            raise
        self._room.note(digest)

    def _check_failed(self, digest: str) -> None:
        """Those who waited for a fetch that failed fail with it, and do not wait as long, one after the other."""
        with self._lock:
            for name in ("", digest):
                at, error = self._failed.get(name, (float("-inf"), None))
                if error is not None and time.monotonic() - at < REMEMBERED:
                    raise type(error)(error.message, hint=error.hint)
                self._failed.pop(name, None)

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        """Be the one that fetches `digest` to this disk, after waiting for whoever does."""
        place = self._arriving / digest.replace(":", "-")
        try:
            while True:
                try:
                    place.mkdir(parents=True, exist_ok=True)
                    held = lock_exclusive(place)
                except (FileExistsError, FileNotFoundError):  # the one before has just finished and removed it
                    continue
                if is_at(held, place):
                    break
                os.close(held)
        except OSError as error:
            raise StoreError.from_os(error, place) from error
        try:
            yield
        finally:
            with suppress(OSError):  # an empty directory is in nobody's way
                place.rmdir()
            os.close(held)
