"""Files of known size that exist in full, on the disk, before anything is written into them."""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from quire.artifact.identity import digest_bytes
from quire.artifact.parts import FileEntry
from quire.artifact.shards import FilePlan

_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class ReservedFile:
    """A file under construction, mapped read-write: what is stored in `mapping` is in the file."""

    plan: FilePlan
    descriptor: int
    mapping: mmap.mmap

    @classmethod
    def reserve(cls, path: Path, plan: FilePlan) -> ReservedFile:
        """A new file at `path`, at full size, its header written. `OSError`, with nothing left behind."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            allocate(descriptor, plan.size)
            mapping = mmap.mmap(descriptor, plan.size)
        except BaseException:
            os.close(descriptor)
            path.unlink()
            raise
        mapping[: len(plan.header)] = plan.header
        return cls(plan, descriptor, mapping)

    def settle(self) -> FileEntry:
        """Put the bytes on the disk, make the file read-only, and say what it holds."""
        self.mapping.flush()
        os.fchmod(self.descriptor, 0o444)
        os.fsync(self.descriptor)
        return FileEntry(self.plan.name, self.plan.size, digest_bytes(self.mapping))

    def let_go(self) -> None:
        """Close the descriptor. The mapping goes when the last tensor over it does."""
        os.close(self.descriptor)


def allocate(descriptor: int, size: int) -> None:
    """Give the file real blocks: a store into a mapped hole on a full disk kills the process with SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    left = size
    while left:
        left -= os.write(descriptor, _ZEROS[:left])


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` outlast a loss of power. `OSError` from the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
