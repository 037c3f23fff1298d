"""From the object store to files on the disk: pieces of several files at once, hashed in order as they arrive.

A piece is what one request carries. A connection that is cut or falls silent costs that piece and not the file: it is
asked for again by its range. A file whose bytes are not what the manifest says is fetched once more, in case they were
changed on the way, and then refused.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from quire.artifact.manifest import MANIFEST_FILE
from quire.artifact.space import allocate
from quire.errors import ArtifactMissing, ArtifactTruncated, ChecksumMismatch, StoreError
from quire.store.remote import SEND_AGAIN, Remote, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.artifact import FileEntry, Manifest

PIECE = 8 << 20  # bytes of one request
AT_ONCE = 8  # requests under way: what a wide connection wants, and 64 MiB at most that are not written yet
TRIES = 2  # of a file whose bytes are wrong


def reserve(manifest: Manifest, directory: Path) -> None:
    """Mutates: all files at full size, so that a full disk is known before the first byte is asked for.

    Raises:
        StoreFull, StoreUnwritable, StoreError.
    """
    try:
        for entry in manifest.files:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(directory / entry.name, flags, 0o600)
            try:
                allocate(descriptor, entry.bytes)
            finally:
                os.close(descriptor)
    except OSError as error:
        needed = sum(entry.bytes for entry in manifest.files)
        raise StoreError.from_os(error, directory, needed=needed) from error


def fetch_files(
    remote: Remote, digest: str, manifest: Manifest, data: bytes, directory: Path, tell: Callable[[int], None]
) -> None:
    """Mutates: fill the reserved files, compare each with its digest, and write the manifest, whose bytes are `data`.

    `tell`: called with bytes as they arrive.

    Raises:
        ArtifactMissing, ArtifactTruncated, ChecksumMismatch: the store has not what the manifest says.
        StoreUnreachable, StoreDenied, StoreError.
    """
    try:
        with ExitStack() as open_files, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="quire-fetch") as workers:
            files = [open_files.enter_context(_Arriving(remote, digest, entry, directory)) for entry in manifest.files]
            pieces = [
                workers.submit(file.bring, at, tell) for file in files for at in range(0, file.entry.bytes, PIECE)
            ]
            try:
                for piece in pieces:
                    piece.result()
            except BaseException:
                workers.shutdown(wait=True, cancel_futures=True)
                raise
        for entry in manifest.files:
            (directory / entry.name).chmod(0o444)
        (directory / MANIFEST_FILE).write_bytes(data)
        (directory / MANIFEST_FILE).chmod(0o444)
    except OSError as error:
        raise StoreError.from_os(error, directory) from error


class _Arriving:
    """One file on its way. Its pieces may come in any order; the digest is taken in the order of the file."""

    def __init__(self, remote: Remote, digest: str, entry: FileEntry, directory: Path) -> None:
        self.entry = entry
        self._remote, self._digest = remote, digest
        self._descriptor = os.open(directory / entry.name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._hasher = blake3(max_threads=blake3.AUTO)
        self._hashed = 0  # bytes from the start
        self._written: dict[int, int] = {}  # pieces beyond it, from where to where
        self._tries = 0

    def bring(self, at: int, tell: Callable[[int], None]) -> None:
        """Fetch the piece at `at` and write it. Who writes the last piece compares the digest."""
        end = min(at + PIECE, self.entry.bytes)
        data = self._remote.objects.read(name_of(self._digest, self.entry.name), at, end)
        if data is None:
            raise ArtifactMissing(
                f"{self._remote.url}: expected {self.entry.name} of {self._digest}, found nothing", hint=SEND_AGAIN
            )
        if len(data) != end - at:
            raise ArtifactTruncated(
                f"{self._remote.url}: {self.entry.name} of {self._digest}: expected {self.entry.bytes:,} bytes, found "
                f"{at + len(data):,}",
                hint=SEND_AGAIN,
            )
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], at + written)
        tell(len(data))
        if self._hash_on(at, end):
            return
        for again in range(0, self.entry.bytes, PIECE):
            self.bring(again, lambda _: None)

    def _hash_on(self, at: int, end: int) -> bool:
        """Hash what is there without a gap. False when that was all, is wrong, and is worth another try."""
        with self._lock:
            self._written[at] = end
            while (following := self._written.pop(self._hashed, None)) is not None:
                self._hasher.update(os.pread(self._descriptor, following - self._hashed, self._hashed))
                self._hashed = following
            if self._hashed < self.entry.bytes:
                return True
            found = f"b3:{self._hasher.hexdigest()}"
            if found == self.entry.digest:
                return True
            self._tries += 1
            if self._tries < TRIES:
                self._hasher, self._hashed = blake3(max_threads=blake3.AUTO), 0
                return False
        raise ChecksumMismatch(
            f"{self._remote.url}: {self.entry.name} of {self._digest}: expected {self.entry.digest}, found {found}",
            hint=SEND_AGAIN,
        )

    def __enter__(self) -> _Arriving:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
