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

from quire.model.kernels import Guard, map_guarded, open_guard

PAGE = mmap.PAGESIZE
PAGES = 64
FATAL = """
import faulthandler, mmap, os, sys
if sys.argv[2] == "handled":
    faulthandler.enable()
from quire.model.kernels import map_guarded, open_guard
file = os.open(sys.argv[1], os.O_RDWR)
guard = open_guard()
guarded = map_guarded(guard, file, 8192)
slot = guarded.slot
other = mmap.mmap(file, 8192)
if sys.argv[2] == "released":
    guard.release(slot)
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


def test_what_a_file_has_no_longer_reads_as_zeros_in_every_thread(guard: Guard, file: Path) -> None:
    with file.open("rb") as opened:
        mapping = map_guarded(guard, opened.fileno(), PAGE * PAGES)
    numbers = torch.frombuffer(mapping, dtype=torch.uint8)
    assert (int(numbers.sum()), mapping.faulted) == (PAGE * PAGES, False)
    os.truncate(file, 10 * PAGE)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(int(numbers.sum()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10 * PAGE] * 8
    assert mapping.faulted
    assert mapping[: 10 * PAGE] == b"\x01" * (10 * PAGE)


def test_slots_are_used_again_and_begin_without_faults(guard: Guard, file: Path) -> None:
    for _ in range(3):
        with file.open("rb") as opened:
            mapping = map_guarded(guard, opened.fileno(), PAGE * PAGES)
        before = mapping.faulted
        os.truncate(file, 0)
        assert (before, mapping[PAGE], mapping.faulted) == (False, 0, True)
        slot = mapping.slot
        del mapping
        file.write_bytes(b"\x01" * PAGE * PAGES)
        with file.open("rb") as opened:
            mapping = map_guarded(guard, opened.fileno(), PAGE * PAGES)
        assert mapping.slot == slot
        del mapping


@pytest.mark.parametrize("way", ["unhandled", "handled", "released", "sent"])
def test_other_faults_end_the_process(guard: Guard, file: Path, way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FATAL, str(file), way], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stdout == ("" if way == "sent" else "guarded\n")
    assert ("Fatal Python error: Bus error" in done.stderr) == (way == "handled")
