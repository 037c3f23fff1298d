"""Mapped files that are cut short read as zeros; what else raises SIGBUS ends the process as it always did."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from quire.model import HostMemory
from quire.model.kernels import Guard, GuardedRange, open_guard
from quire.pool.integrity import reader

PAGE = mmap.PAGESIZE
PAGES = 64
FATAL = """
import faulthandler, mmap, os, sys
if sys.argv[2] == "handled":
    faulthandler.enable()
from quire.model import HostMemory
from quire.model.kernels import open_guard
from quire.pool.integrity import reader
file = os.open(sys.argv[1], os.O_RDWR)
guard = open_guard()
ranges = []
guarded = reader(HostMemory(guard), ranges)(file, 8192)
other = mmap.mmap(file, 8192)
if sys.argv[2] == "released":
    ranges[0].release()
    other = guarded
os.truncate(file, 0)
if sys.argv[2] == "sent":
    os.kill(os.getpid(), 7)
assert sys.argv[2] == "released" or guarded[5000] == 0
print("guarded", flush=True)
other[5000]
print("still there", flush=True)
"""


@pytest.fixture(scope="module")
def guard() -> Guard:
    found = open_guard()
    if found is None:
        pytest.skip("needs a compiler")
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "file"
    place.write_bytes(b"\x01" * PAGE * PAGES)
    return place


def mapped(guard: Guard, file: Path) -> tuple[memoryview, GuardedRange]:
    ranges: list[GuardedRange] = []
    with file.open("rb") as opened:
        return reader(HostMemory(guard), ranges)(opened.fileno(), PAGE * PAGES), ranges[0]


def test_what_a_file_has_no_longer_reads_as_zeros_in_every_thread(guard: Guard, file: Path) -> None:
    mapping, guarded = mapped(guard, file)
    numbers = torch.frombuffer(mapping, dtype=torch.uint8)
    assert (int(numbers.sum()), guarded.faulted) == (PAGE * PAGES, False)
    os.truncate(file, 10 * PAGE)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(int(numbers.sum()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10 * PAGE] * 8
    assert guarded.faulted
    assert mapping[: 10 * PAGE] == b"\x01" * (10 * PAGE)


def test_slots_are_used_again_and_begin_without_faults(guard: Guard, file: Path) -> None:
    for _ in range(3):
        mapping, guarded = mapped(guard, file)
        before = guarded.faulted
        os.truncate(file, 0)
        assert (before, mapping[PAGE], guarded.faulted) == (False, 0, True)
        slot = guarded.slot
        del mapping
        file.write_bytes(b"\x01" * PAGE * PAGES)
        mapping, guarded = mapped(guard, file)
        assert guarded.slot == slot
        del mapping


@pytest.mark.parametrize("way", ["unhandled", "handled", "released", "sent"])
def test_other_faults_end_the_process(guard: Guard, file: Path, way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FATAL, str(file), way], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stdout == ("" if way == "sent" else "guarded\n")
    assert ("Fatal Python error: Bus error" in done.stderr) == (way == "handled")
