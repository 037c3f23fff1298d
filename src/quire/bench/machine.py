"""The machine that the figures belong to, with the two rates that bound what any program can do on it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from quire.model import processor_name
from quire.store import file_system_of

if TYPE_CHECKING:
    from collections.abc import Callable

COPIED = 256 << 20  # bytes: beyond the last-level cache of most machines
SIDE = 1024  # rows and columns of the product
ATTEMPTS = 5
LIBRARIES = ("torch", "transformers", "safetensors", "blake3")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a reader needs to judge a figure. The machine's name is not among it.

    `copy_rate`: bytes per second read and written together, by copying a large buffer (as STREAM's Copy kernel,
    McCalpin 1995). `read_rate`: bytes per second only read, by summing the same buffer. `product_rate`: floating-point
    operations per second of a square matrix product in the model's dtype, `float32_rate` in float32: without matrix
    instructions for a 16-bit dtype that is the faster one. All with `threads`.
    """

    cpu: str
    cores: int
    threads: int
    memory_bytes: int
    instructions: str
    system: str
    file_system: str
    python: str
    libraries: dict[str, str]
    copy_rate: float
    read_rate: float
    product_rate: float
    float32_rate: float
    date: str


def describe_machine(work: Path, dtype: torch.dtype) -> Machine:
    """Name this machine and measure its rates. `work`: where the artifacts of the benchmark lie."""
    return Machine(
        cpu=processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        instructions=torch.backends.cpu.get_cpu_capability(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        file_system=file_system_of(work).kind or "unknown",
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        copy_rate=measure_copy(),
        read_rate=measure_read(),
        product_rate=measure_product(dtype),
        float32_rate=measure_product(torch.float32),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def measured_again(machine: Machine, dtype: torch.dtype) -> Machine:
    """`machine` with the better of its rates and those of now: whatever else runs can only lower them."""
    return replace(
        machine,
        copy_rate=max(machine.copy_rate, measure_copy()),
        read_rate=max(machine.read_rate, measure_read()),
        product_rate=max(machine.product_rate, measure_product(dtype)),
        float32_rate=max(machine.float32_rate, measure_product(torch.float32)),
    )


def measure_copy() -> float:
    """Bytes per second, read and written, of copying `COPIED` bytes."""
    source = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    return 2 * COPIED / _median_seconds(lambda: target.copy_(source))


def measure_read() -> float:
    """Bytes per second of summing `COPIED` bytes of float32."""
    source = torch.ones(COPIED // 4, dtype=torch.float32)
    return COPIED / _median_seconds(lambda: source.sum())


def measure_product(dtype: torch.dtype) -> float:
    """Operations per second of a [SIDE, SIDE] by [SIDE, SIDE] product: 2 x SIDE^3 operations."""
    left, right = torch.ones(SIDE, SIDE, dtype=dtype), torch.ones(SIDE, SIDE, dtype=dtype)
    return 2 * SIDE**3 / _median_seconds(lambda: left @ right)


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ATTEMPTS + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])  # the first one also maps the pages
