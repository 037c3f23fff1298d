"""How many files this process may hold open, and how many of those open modules may take."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

from quire.errors import lack_of

SOFT_MOST = 1 << 20  # a child process that closes every number it might have inherited must not take minutes
OTHERS_MOST = 1024  # descriptors of sockets, databases, transfers and files that are read; half of a small limit
FILES_MOST = 64  # of those, for files that requests read for a moment; an eighth of a small limit
MAPPINGS_FILE = Path("/proc/sys/vm/max_map_count")
OTHER_MAPPINGS = 16_384  # of libraries, threads, allocators and the model


def raise_limit() -> None:
    """Mutates this process: raise its soft limit on open files to the hard one. Nothing where the system refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SOFT_MOST if hard == resource.RLIM_INFINITY else min(hard, SOFT_MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS caps it at another figure than the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def for_modules() -> int:
    """How many descriptors open modules may hold together: what the soft limit leaves after all else's share."""
    return max(1, _limit() - min(OTHERS_MOST, _limit() // 2))


def sockets_most() -> int:
    """How many descriptors may be in use when another connection is accepted: requests need some for files."""
    return _limit() - min(FILES_MOST, _limit() // 8)


def mappings_for_modules() -> int:
    """How many mapped files open modules may hold together, by Linux's `vm.max_map_count`."""
    try:
        most = int(MAPPINGS_FILE.read_text())
    except (OSError, ValueError):  # another system, which has no such limit
        return 1 << 31
    return max(1, most - min(OTHER_MAPPINGS, most // 2))


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return SOFT_MOST if soft == resource.RLIM_INFINITY else soft


def check_left(count: int) -> None:
    """Raises DescriptorsExhausted unless `count` more files can be opened now."""
    held: list[int] = []
    try:
        for _ in range(count):
            held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise lack_of(error, f"{count} more files") or error from error
    finally:
        for descriptor in held:
            os.close(descriptor)
