"""Modules on their way to the device: layer by layer, through a ring of staging buffers.

A module is cut into pieces of a buffer's size. Threads take them in the order of layers, over all modules that are
under way: a forward pass needs the first layer of its whole chain before the second one of any of it. A thread copies
its piece from where the module lies, in mapped files, into a buffer of the ring, and orders the copy from there to the
device. A buffer is filled again when that copy has been made. So no more of a module than the ring is ever held twice
in the host's memory.

    seconds >= bytes / min(threads x copy rate of one core, host-to-device rate)
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from quire.errors import RestoreFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quire.core import KVSegment
    from quire.pool.streams import CopyStream, Mark

log = logging.getLogger(__name__)

SLOTS, SLOT_BYTES = 8, 16 << 20  # of the ring
THREADS = 4  # one core copies at a fraction of a GPU's bus


class Restoring:
    """One module on its way: the gate of its segment on the device (`quire.core.LayerGate`)."""

    def __init__(self, pieces: list[int]) -> None:
        """`pieces`: of each layer."""
        self._changed = threading.Condition()
        self._missing = pieces  # pieces of each layer whose copies are not ordered yet
        self._marks: list[Mark | None] = [None] * len(pieces)
        self._ordered = 0  # layers from the first on whose copies are
        self._held = 0  # layers from the first on that the reader has been made to wait for
        self._busy = 0  # pieces in a thread's hands
        self._error: BaseException | None = None

    def wait(self, layer: int) -> None:
        """As `LayerGate.wait`.

        Raises:
            RestoreFailed: the layer will not arrive.
        """
        if self._held > layer:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._ordered > layer)
            if self._ordered <= layer:
                raise RestoreFailed(
                    f"layer {layer} of a module did not reach the device: {self._error}", hint="ask again"
                ) from self._error
            marks = self._marks[self._held : layer + 1]
        for mark in marks:
            if mark is not None:
                mark.hold()
        self._held = max(self._held, layer + 1)

    @property
    def failed(self) -> bool:
        """It will never be complete."""
        return self._error is not None

    def give_up(self, error: BaseException) -> None:
        """Copy nothing more, and return when nothing is being copied. May be called twice."""
        with self._changed:
            if self._ordered < len(self._marks):
                self._error = self._error or error
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy)
            marks = list(self._marks)
        for mark in marks:
            if mark is not None:
                mark.wait()

    def _begin(self) -> bool:
        """Take a piece in hand. False: it is not wanted any more."""
        with self._changed:
            self._busy += not self._error
            return not self._error

    def _done(self, layer: int, mark: Mark) -> None:
        """The copy of a piece in hand is ordered, up to `mark`."""
        with self._changed:
            self._busy -= 1
            self._marks[layer] = mark
            self._missing[layer] -= 1
            while self._ordered < len(self._missing) and not self._missing[self._ordered]:
                self._ordered += 1
            self._changed.notify_all()

    def _failed(self, error: BaseException) -> None:
        """A piece in hand will not arrive."""
        with self._changed:
            self._busy -= 1
            self._error = self._error or error
            self._changed.notify_all()


@dataclass(order=True, slots=True)
class _Piece:
    layer: int
    number: int  # of all pieces ever: first come, first served among those of one layer
    restoring: Restoring = field(compare=False)
    source: torch.Tensor = field(compare=False)  # uint8, on the host
    target: torch.Tensor = field(compare=False)  # uint8, on the device


@dataclass(slots=True)
class _Slot:
    buffer: torch.Tensor
    free: Mark | None = None  # reached when it may be filled again


class Restorer:
    """Brings modules to one device, several at once. Thread-safe."""

    def __init__(
        self, stream: CopyStream, *, slots: int = SLOTS, slot_bytes: int = SLOT_BYTES, threads: int = THREADS
    ) -> None:
        """`slots` buffers of `slot_bytes` in the ring; `threads` fill them, no more than there are cores."""
        self._stream = stream
        self._slot_bytes = slot_bytes
        self._ring: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(slots):
            self._ring.put(_Slot(stream.staging(slot_bytes)))
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._pieces: list[_Piece] = []  # a heap
        self._closed = False
        self._ordering = threading.Lock()
        cores = min(threads, os.cpu_count() or 1)
        self._threads = [
            threading.Thread(target=self._run, name=f"quire-restore-{n}", daemon=True) for n in range(cores)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, source: KVSegment, target: KVSegment) -> Restoring:
        """Begin to fill `target`, on the device, from `source`, which must stay until the last layer has arrived."""
        self._stream.follow()
        layers = [
            [piece for pair in ((keys, to_keys), (values, to_values)) for piece in self._cut(*pair)]
            for keys, to_keys, values, to_values in zip(
                source.keys, target.keys, source.values, target.values, strict=True
            )
        ]
        restoring = Restoring([len(pieces) for pieces in layers])
        with self._changed:
            for layer, pieces in enumerate(layers):
                for here, there in pieces:
                    heapq.heappush(self._pieces, _Piece(layer, next(self._numbers), restoring, here, there))
            self._changed.notify_all()
        return restoring

    def close(self) -> None:
        """Finish the pieces that are in hand, and end. What is not complete then never will be."""
        with self._changed:
            self._closed = True
            left, self._pieces = self._pieces, []
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for restoring in {id(piece.restoring): piece.restoring for piece in left}.values():
            restoring.give_up(RestoreFailed("the pool was closed"))
        self._stream.close()

    def _cut(self, source: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Both as bytes, in pieces of a slot's size."""
        here, there = (t.reshape(-1).view(torch.uint8) for t in (source, target))
        return zip(torch.split(here, self._slot_bytes), torch.split(there, self._slot_bytes), strict=True)

    def _run(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        # A call of its own, so that while it waits the thread holds no piece, and with it no module's files.
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._closed)
            if not self._pieces:
                return False
            piece = heapq.heappop(self._pieces)
        if piece.restoring._begin():
            try:
                self._carry(piece)
            except Exception as error:  # of this module alone: the thread goes on with the others
                log.exception("a module could not be copied to the device")
                piece.restoring._failed(error)
        return True

    def _carry(self, piece: _Piece) -> None:
        """Stage one piece and order its copy."""
        slot = self._ring.get()
        try:
            if slot.free is not None:
                slot.free.wait()
            staged = slot.buffer[: len(piece.source)]
            np.copyto(staged.numpy(), piece.source.numpy())  # on this core alone, without Python's lock
            with self._ordering:  # so that a layer's newest mark comes after all of its copies
                self._stream.copy(piece.target, staged)
                slot.free = self._stream.mark()
                piece.restoring._done(piece.layer, slot.free)
        finally:
            self._ring.put(slot)
