"""Locks on open files that end with their process (`flock`), and a name for file systems that have none."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

from quire.errors import LocksUnavailable

REFUSALS = frozenset({errno.ENOLCK, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP})


def flock(descriptor: int, operation: int, path: Path) -> None:
    """As `fcntl.flock`. `path`: what the descriptor is open on, for the error.

    Raises:
        LocksUnavailable: the file system there has no such locks.
        BlockingIOError: with LOCK_NB, if another one holds it. OSError.
    """
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise LocksUnavailable(
            f"the file system of {path} does not lock it: {error.strerror}",
            hint="network file systems refuse locks on directories (NFS) or all of them (some FUSE): put the project's "
            "state and model.home on a local disk, and share modules through an object store (store.url)",
        ) from error
