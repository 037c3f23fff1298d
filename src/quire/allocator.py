"""Memory that the C library keeps after `free`: how much that may be, and giving it back.

glibc gives threads that allocate at the same time heaps of their own, up to eight for each core, and a heap that has
grown is not given back to the system as long as its end is in use. With other C libraries nothing is done here.
"""

from __future__ import annotations

import ctypes

ARENAS = 2  # heaps of the process; a server's long computations are few at a time
_M_ARENA_MAX = -8  # malloc.h

_libc = ctypes.CDLL(None)


def limit_heaps() -> None:
    """Let new threads share `ARENAS` heaps. To be called before the process starts threads that allocate much."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Give free pages of all heaps back to the system. It takes milliseconds, for tens of megabytes that were used."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
