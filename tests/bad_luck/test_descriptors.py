"""Without descriptors or memory for another file nothing is opened, and nothing is called damaged for that."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import descriptors

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["quire.project", "transformers.models.llama.modeling_llama"])


def told(act: Callable[..., None], *arguments: object) -> Any:
    """What `act` reports from a process of its own."""
    ours, theirs = FORKSERVER.Pipe(duplex=False)
    process = FORKSERVER.Process(target=act, args=(*arguments, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(120)
        return ours.recv()
    finally:
        process.join(120)
        assert process.exitcode == 0


def test_all_that_reads_files_says_what_it_lacks(shop: Path) -> None:
    before, without, after, found = told(descriptors.open_everything, shop)
    assert before == after == dict.fromkeys(without, "done")
    assert without == dict.fromkeys(without, "descriptors_exhausted")
    assert found == [], "the registry is sound"


def test_a_check_without_descriptors_finds_no_damage(shop: Path) -> None:
    assert told(descriptors.check_without, shop) == ("descriptors_exhausted", [])


def test_a_file_that_cannot_be_mapped_is_not_damaged(shop: Path) -> None:
    kept, after = told(descriptors.open_unmappable, shop)
    assert kept[-1] == "memory_exhausted"
    assert after == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="rights are dropped as on Linux")
def test_a_copy_that_may_not_be_read_is_not_damaged(shop: Path, tmp_path: Path) -> None:
    found, left, said, afterwards = told(descriptors.read_denied, shop, f"file://{tmp_path}/objects")
    assert found == left == ["unreadable"], "a repair leaves it alone"
    assert said == ["store_unreadable", "done"], "it stayed where it was"
    assert afterwards == []


def test_idle_modules_give_their_descriptors_to_others(shop: Path, tmp_path: Path) -> None:
    said, closed, damaged, aside = told(descriptors.lease_in_turn, shop, f"file://{tmp_path}/objects")
    in_turn, in_use, afterwards = said[:4], said[4:6], said[6:]
    assert in_turn == ["done"] * 4
    assert closed > 0
    assert in_use == ["descriptors_exhausted"] * 2, "what is used is not closed"
    assert afterwards == ["done"] * 2
    assert (damaged, aside) == (0, []), "good copies stay where they are"
