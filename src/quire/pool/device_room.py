"""Modules on the device, within a budget: what nobody uses goes first, the longest unused before the others.

What goes stays open on the host, mapped and verified, and comes back at the speed of the bus.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from quire.errors import DeviceFull, EngineBusy, RestoreFailed
from quire.pool.restoring import Restorer, Restoring
from quire.pool.streams import open_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import KVSegment
    from quire.pool.streams import CopyStream

SHARE = 2  # of the memory that is free, modules get one part; the other is for activations


@dataclass(slots=True)
class _Placed:
    segment: KVSegment
    restoring: Restoring
    bytes: int
    users: int = 0
    used_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Modules on the device or on their way, their bytes, and how often one was brought and given up."""

    modules: int = 0
    bytes: int = 0
    restored: int = 0
    evicted: int = 0


class DeviceRoom:
    """Copies of modules on one device, by digest. Thread-safe."""

    def __init__(self, stream: CopyStream, max_bytes: int, restorer: Restorer | None = None) -> None:
        """`restorer`: on `stream`; None: one of the usual size."""
        self._stream = stream
        self._max_bytes = max_bytes
        self._restorer = restorer or Restorer(stream)
        self._placed: dict[str, _Placed] = {}
        self._lock = threading.Lock()
        self._restored = self._evicted = 0

    def lease(self, chain: Sequence[tuple[str, KVSegment]]) -> tuple[KVSegment, ...]:
        """The segments of a chain on the device, those that were not there on their way. Each is kept for its user.

        Args:
            chain: digests, and segments on the host, which must stay until `drop` or the last layer's arrival.

        Raises:
            DeviceFull: the chain is larger than the budget. EngineBusy: others use too much of it now.
        """
        wanted = sum(_size(segment) for _, segment in chain)
        if wanted > self._max_bytes:
            raise DeviceFull(
                f"the chain takes {wanted:,} bytes on the device, modules may take {self._max_bytes:,}",
                hint="raise pool.device_bytes, or split the module",
            )
        with self._lock:
            for digest, _ in chain:  # not to be evicted for one another
                if digest in self._placed:
                    self._placed[digest].users += 1
            taken: list[str] = [digest for digest, _ in chain if digest in self._placed]
            try:
                for digest, segment in chain:
                    if digest not in self._placed:
                        self._placed[digest] = self._bring(segment)
                        self._placed[digest].users = 1
                        taken.append(digest)
            except BaseException:
                self._give_back(taken)
                raise
            return tuple(self._placed[digest].segment for digest, _ in chain)

    def give_back(self, digests: Sequence[str]) -> None:
        """One user less of each."""
        with self._lock:
            self._give_back(digests)

    def drop(self, digest: str) -> None:
        """Forget a module that nobody uses, if it is here; its segment on the host may go when this returns."""
        with self._lock:
            if digest in self._placed:
                self._remove(digest)

    def state(self) -> DeviceState:
        with self._lock:
            held = [placed.bytes for placed in self._placed.values()]
            return DeviceState(len(held), sum(held), self._restored, self._evicted)

    def close(self) -> None:
        """End the copying. What is complete stays usable by whoever holds it."""
        self._restorer.close()

    def _bring(self, segment: KVSegment) -> _Placed:
        size = _size(segment)
        self._make_room(size)
        layers, shape = len(segment.keys), segment.keys[0].shape
        try:
            memory = self._stream.memory((2, layers, *shape), segment.keys[0].dtype)
        except torch.OutOfMemoryError as error:
            raise EngineBusy(
                f"the device has no {size:,} bytes left for a module",
                hint="ask again; if it stays, lower pool.device_bytes",
            ) from error
        target = replace(segment, keys=memory[0].unbind(0), values=memory[1].unbind(0))
        restoring = self._restorer.start(segment, target)
        self._restored += 1
        return _Placed(replace(target, gate=restoring), restoring, size)

    def _make_room(self, size: int) -> None:
        idle = sorted((p.used_at, digest) for digest, p in self._placed.items() if not p.users)
        for _, digest in idle:
            if sum(p.bytes for p in self._placed.values()) + size <= self._max_bytes:
                return
            self._remove(digest)
            self._evicted += 1
        used = sum(p.bytes for p in self._placed.values())
        if used + size > self._max_bytes:
            raise EngineBusy(
                f"modules in use take {used:,} of {self._max_bytes:,} bytes on the device, {size:,} more are needed",
                hint="ask again in a moment",
            )

    def _give_back(self, digests: Sequence[str]) -> None:
        for digest in digests:
            placed = self._placed[digest]
            placed.users -= 1
            placed.used_at = time.monotonic()
            if not placed.users and placed.restoring.failed:
                self._remove(digest)  # it will be brought anew

    def _remove(self, digest: str) -> None:
        self._placed.pop(digest).restoring.give_up(RestoreFailed("nobody waits for the module any more"))


def open_room(device: torch.device, max_bytes: int) -> DeviceRoom | None:
    """Room for modules on `device`; 0: for half of what is free now. None on a CPU, which reads them in place."""
    if device.type == "cpu":
        return None
    if not max_bytes:
        max_bytes = torch.cuda.mem_get_info(device)[0] // SHARE
    return DeviceRoom(open_stream(device), max_bytes)


def _size(segment: KVSegment) -> int:
    return sum(t.nbytes for t in (*segment.keys, *segment.values))
