"""Threads that share work do every item once, before their caller goes on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from quire.model.kernels.library import HERE as KERNELS

ROUNDS = 1_000_000  # some two seconds


def test_a_team_runs_every_item_once(tmp_path: Path) -> None:
    """A worker that took an item of the next job for one of the last made it run twice, some ten times in a million."""
    program = tmp_path / "team"
    compiler = os.environ.get("CXX", "g++")
    source = Path(__file__).with_name("team.cpp")
    flags = ("-O3", "-march=native", "-std=c++17", "-pthread", f"-I{KERNELS}")
    subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
    done = subprocess.run([program, str(ROUNDS)], check=True, capture_output=True, text=True)
    assert done.stdout == "0\n"
