"""Copies that go on while something else is computed: on a GPU a side stream, on a CPU a thread that really copies.

The second one exists so that whoever orders copies is tested where there is no GPU.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch


class Mark(ABC):
    """A point in the order of a stream's copies, reached when all before it are made."""

    @abstractmethod
    def wait(self) -> None:
        """Return when it is reached."""

    @abstractmethod
    def hold(self) -> None:
        """Let what is computed after this call, from the same thread, begin when it is reached. Need not wait."""


class CopyStream(ABC):
    """Copies to one device, made in the order in which they were asked for. Thread-safe."""

    @abstractmethod
    def staging(self, nbytes: int) -> torch.Tensor:
        """Host memory that `copy` reads at the device's full speed: uint8 [nbytes]."""

    @abstractmethod
    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory on the device. Raises: torch.OutOfMemoryError."""

    @abstractmethod
    def follow(self) -> None:
        """Let copies from now on begin after what was computed so far: memory that they fill may have been read."""

    @abstractmethod
    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Fill `target`, on the device, from `source`, which must stay as it is until a mark after this is reached."""

    @abstractmethod
    def mark(self) -> Mark:
        """The point after all copies so far."""

    @abstractmethod
    def close(self) -> None:
        """Make the copies that were asked for, and end."""


class CudaStream(CopyStream):
    """A side stream of a GPU, staging from pinned memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def staging(self, nbytes: int) -> torch.Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=self._device)

    def follow(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def mark(self) -> Mark:
        return _CudaMark(self._stream.record_event(), self._device)

    def close(self) -> None:
        self._stream.synchronize()


class _CudaMark(Mark):
    def __init__(self, event: torch.cuda.Event, device: torch.device) -> None:
        self._event = event
        self._device = device

    def wait(self) -> None:
        self._event.synchronize()

    def hold(self) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._event)


class HostStream(CopyStream):
    """A thread that copies within the host's memory."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="quire-copies", daemon=True)
        self._thread.start()

    def staging(self, nbytes: int) -> torch.Tensor:
        return torch.empty(nbytes, dtype=torch.uint8)

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    def follow(self) -> None:
        """Nothing to do: on a CPU what was computed is done when the call returns."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self._orders.put(lambda: target.copy_(source))

    def mark(self) -> Mark:
        mark = _HostMark()
        self._orders.put(mark.reach)
        return mark

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        # A call of its own, so that while it waits the thread holds no memory of a copy that is made.
        order = self._orders.get()
        if order is not None:
            order()
        return order is not None


class _HostMark(Mark):
    def __init__(self) -> None:
        self._reached = threading.Event()

    def reach(self) -> None:
        self._reached.set()

    def wait(self) -> None:
        self._reached.wait()

    def hold(self) -> None:
        self._reached.wait()


def open_stream(device: torch.device) -> CopyStream:
    """What copies to `device`."""
    return CudaStream(device) if device.type == "cuda" else HostStream()
