"""Locks on directories, held by open descriptors: they end with the process, however it ends.

`flock` on the directory itself: no lock file has to be made, kept, or told apart from the content, and a
lease needs no permission to write. Local file systems only, because NFS has no exclusive lock on a directory. All of
these raise `LocksUnavailable` on one that has no locks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quire.locking import flock


def lock_shared(directory: Path) -> int:
    """A descriptor that holds a shared lock, after waiting for whoever holds the exclusive one. `OSError`."""
    return _lock(directory, fcntl.LOCK_SH)


def lock_exclusive(directory: Path) -> int:
    """A descriptor that holds the only lock, after waiting for it. `OSError`."""
    return _lock(directory, fcntl.LOCK_EX)


def try_lock(directory: Path) -> int | None:
    """A descriptor that holds the only lock, or None when somebody else holds any. `OSError`."""
    try:
        return _lock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the only lock on `directory`, after waiting for it. `OSError`."""
    descriptor = lock_exclusive(directory)
    try:
        yield
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the directory that was locked: it may have moved while we waited."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _lock(directory: Path, operation: int) -> int:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flock(descriptor, operation, directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
