from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quire.model import LoadedModel, ModelFacts

SmallDisk = Callable[[int], Path]


@pytest.fixture(scope="session")
def facts(tiny_model: LoadedModel) -> ModelFacts:
    return tiny_model.facts


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A function that gives an empty directory on a file system of its own, so many bytes large."""
    mounted: list[Path] = []

    def make(size: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("needs the right to mount a file system")
        mounted.append(place)
        return place

    yield make
    gc.collect()  # an exception that was caught keeps its frames, and with them a mapping, until then
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)
