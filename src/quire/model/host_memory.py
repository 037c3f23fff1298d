"""How files become memory: mapped in place and guarded, or copied where nothing guards a mapping."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from quire.model.kernels import open_guard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quire.model.kernels import Guard

log = logging.getLogger(__name__)

MAPS = Path("/proc/self/maps")
MemoryKind = Literal["auto", "mapped", "copied"]


@dataclass(frozen=True, slots=True)
class HostMemory:
    """`guard`: what mapped files are guarded by; None without one. `copies`: files are read into memory instead."""

    guard: Guard | None = None
    copies: bool = False

    def copy_weights(self, model: Any) -> None:
        """Give a transformers model on the CPU weights of its own, where files are copied. Mutates.

        To be called before anybody has its addresses.
        """
        if self.copies:
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data = tensor.data.clone()

    def protect(self, files: Iterable[Path]) -> list[int]:
        """Guard what this process has mapped of `files`; the guard's slots."""
        if self.guard is None or not MAPS.exists():  # not Linux
            return []
        names = {str(file) for file in files}
        slots = []
        for line in MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
            addresses, *_, name = line.split(maxsplit=5)
            if name in names:
                begin, end = (int(address, 16) for address in addresses.split("-"))
                slots.append(self.guard.protect(begin, end - begin))
        return [slot for slot in slots if slot is not None]


@functools.cache
def host_memory(kind: MemoryKind = "auto") -> HostMemory:
    """What `pool.memory` says. auto: mapped where the guard can be compiled, else copied."""
    if kind == "copied":
        return HostMemory(copies=True)
    guard = open_guard()
    if guard is None and kind == "auto":
        log.warning("modules and weights are copied into memory: without a C++ compiler nothing guards mapped files")
    elif guard is None:
        log.warning("mapped files are not guarded: one that is cut short ends the process")
    return HostMemory(guard, copies=guard is None and kind == "auto")
