"""The device that the figures belong to, and the rates that bound them."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from quire.model import processor_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.pool.streams import CopyStream

MOVED = 256 << 20  # bytes
ATTEMPTS = 7


@dataclass(frozen=True, slots=True)
class Device:
    """`bus_rate`: bytes per second from pinned host memory to the device, `read_rate`: of reading its own memory.
    `product_rate`: floating-point operations per second of a square product in bfloat16.
    """

    name: str
    memory_bytes: int
    bus_rate: float
    read_rate: float
    product_rate: float


def describe_device(device: torch.device, stream: CopyStream) -> Device:
    """Name `device` and measure its rates."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else processor_name()
    memory = torch.cuda.get_device_properties(device).total_memory if on_gpu else 0
    return Device(name, memory, _bus_rate(stream), _read_rate(device), _product_rate(device, 8192 if on_gpu else 512))


def settle(device: torch.device) -> None:
    """Return when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _bus_rate(stream: CopyStream) -> float:
    staged = stream.staging(MOVED).zero_()
    target = stream.memory((MOVED,), torch.uint8)

    def move() -> None:
        stream.copy(target, staged)
        stream.mark().wait()

    return MOVED / _median_seconds(move)


def _read_rate(device: torch.device) -> float:
    source = torch.ones(MOVED, dtype=torch.float32, device=device)  # four times as much, beyond any store on the chip

    def read() -> None:
        source.sum()
        settle(device)

    return source.nbytes / _median_seconds(read)


def _product_rate(device: torch.device, side: int) -> float:
    left, right = (torch.ones(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)
        settle(device)

    return 2 * side**3 / _median_seconds(multiply)


def _median_seconds(work: Callable[[], None]) -> float:
    seconds = []
    for _ in range(ATTEMPTS + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])  # the first one also prepares
