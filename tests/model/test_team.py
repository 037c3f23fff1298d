"""Threads that share work do every item once, before their caller goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .running import built

ROUNDS = 1_000_000  # some two seconds


def test_a_team_runs_every_item_once(tmp_path: Path) -> None:
    """A worker that took an item of the next job for one of the last made it run twice, some ten times in a million."""
    program = built("team.cpp", tmp_path, "-march=native")
    done = subprocess.run([program, str(ROUNDS)], check=True, capture_output=True, text=True)
    assert done.stdout == "0\n"
