"""Reading mapped files that others may cut short: zeros and a note of it instead of the end of the process.

A mapping is read by every thread that computes, and a page of it that its file has no longer raises SIGBUS, which ends
the process. `Guard` has a handler in C++ put zeros there, so that the computation comes to its end; who used the result
asks then whether that happened, and drops it.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from quire.errors import KernelsUnavailable
from quire.model.kernels.library import HERE, built

log = logging.getLogger(__name__)

FLAGS = ("-O2", "-std=c++17", "-pthread", "-fPIC", "-shared")


class Guard:
    """Ranges of memory that are read from files. One per process: see `open_guard`. Thread-safe."""

    def __init__(self, library: Path) -> None:
        """Raises KernelsUnavailable where the library does not load or the system refuses the handler."""
        try:
            dll = ctypes.CDLL(str(library))
        except OSError as error:
            raise KernelsUnavailable(f"{library} does not load: {error}", hint="delete the file") from error
        dll.quire_guard_protect.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        dll.quire_guard_release.argtypes = [ctypes.c_int64]
        dll.quire_guard_release.restype = None
        dll.quire_guard_faults.restype = ctypes.c_void_p
        for name in ("install", "protect", "slots"):
            getattr(dll, f"quire_guard_{name}").restype = ctypes.c_int64
        if failed := dll.quire_guard_install():
            raise KernelsUnavailable(f"the system refuses a handler of SIGBUS (errno {failed})")
        self._dll = dll
        slots = dll.quire_guard_slots()
        self._faults = (ctypes.c_int64 * slots).from_address(dll.quire_guard_faults())

    def protect(self, begin: int, size: int) -> int | None:
        """Let `size` bytes from the address `begin` on read as zeros where their file ends. The range's slot.

        None: there are no more slots, and reading there may end the process.
        """
        slot: int = self._dll.quire_guard_protect(begin, size)
        if slot < 0:
            log.warning("%d mapped files are guarded already: another one is not", len(self._faults))
            return None
        return slot

    def release(self, slot: int) -> None:
        """Forget a range; to be called before its memory is unmapped."""
        self._dll.quire_guard_release(slot)

    def faulted(self, slot: int) -> bool:
        """Whether zeros were read there in the place of what the file had."""
        return bool(self._faults[slot])


@dataclass(frozen=True, slots=True)
class GuardedRange:
    """Memory that a file is mapped into. Release it before the memory is unmapped. `slot`: None without a guard."""

    guard: Guard
    slot: int | None

    @classmethod
    def of(cls, guard: Guard, begin: int, size: int) -> GuardedRange:
        """Protect `size` bytes from the address `begin` on."""
        return cls(guard, guard.protect(begin, size))

    @property
    def faulted(self) -> bool:
        """Whether zeros were read from it in the place of what the file had."""
        return self.slot is not None and self.guard.faulted(self.slot)

    def release(self) -> None:
        if self.slot is not None:
            self.guard.release(self.slot)


_opening = threading.Lock()


def open_guard() -> Guard | None:
    """The process's guard, its handler installed on the first call. None where it cannot be compiled."""
    with _opening:
        return _guard()


@functools.cache
def _guard() -> Guard | None:
    try:
        return Guard(built(HERE / "guard.cpp", (HERE / "guard.cpp").read_text(), FLAGS))
    except KernelsUnavailable as error:
        log.info("mapped files cannot be guarded: %s", error.message)
        return None
