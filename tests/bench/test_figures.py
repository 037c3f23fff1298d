"""Turns, targets, rates; and the views of memory against what is known to be there."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from quire.bench.figures import Figure, alternate, at_least, at_most, milliseconds, rate
from quire.bench.floors import prefill_operations, weight_bytes
from quire.bench.pages import drop_pages, residency_of, resident_share
from quire.model import find_model
from quire.store import file_system_of

SIZE = 4 << 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"x" * SIZE)
    return path


def test_arms_take_turns_and_the_first_one_changes() -> None:
    ran: list[str] = []

    def arm(name: str, seconds: float) -> float:
        ran.append(name)
        return seconds

    found = alternate({"a": lambda: arm("a", 1.0), "b": lambda: arm("b", 2.0)}, 3, lambda _: None)
    assert ran == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_target_is_met_at_its_bound() -> None:
    assert Figure(name="x", value=25, unit="x", target=at_least(25)).met is True
    assert Figure(name="x", value=20.1, unit="ms", target=at_most(20)).met is False
    assert Figure(name="x", value=1, unit="ms").met is None


def test_medians_stand_for_their_samples() -> None:
    assert milliseconds("t", [0.3, 0.1, 0.2]).value == pytest.approx(200)
    assert rate("r", 10, [1.0, 2.0, 5.0], "tokens/s").samples == (10.0, 5.0, 2.0)


def test_pages_of_a_file_are_seen_in_memory_and_dropped(file: Path) -> None:
    file.read_bytes()
    assert resident_share(file.parent) == 1.0
    drop_pages(file.parent)
    assert resident_share(file.parent) < 1.0 or file_system_of(file).kind == "tmpfs"


def test_only_pages_mapped_from_the_directory_are_counted(file: Path) -> None:
    assert residency_of(file.parent).rss == 0
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as mapping:
        assert sum(mapping[:: mmap.PAGESIZE]) == ord("x") * SIZE // mmap.PAGESIZE  # touches every page
        mapped = residency_of(file.parent)
        assert mapped.rss == SIZE
        assert mapped.pss <= mapped.rss == mapped.shared + mapped.private
    assert residency_of(file.parent).rss == 0


def test_floors_count_the_weights_that_a_pass_reads(tiny_model_dir: Path) -> None:
    model = find_model(str(tiny_model_dir), tiny_model_dir.parent).load(threads=1)
    plain = LlamaForCausalLM.from_pretrained(tiny_model_dir)
    everything = sum(p.numel() for p in plain.parameters())
    embedding = plain.get_input_embeddings().weight.numel()
    assert weight_bytes(model) == 4 * (everything - embedding)  # its output matrix is not the embedding
    layers = everything - 2 * embedding
    one, attention = prefill_operations(model, 1), 4 * 2 * 4 * 16
    assert one == 2 * layers + attention + 2 * embedding
    assert prefill_operations(model, 100) == 100 * 2 * layers + attention * 5050 + 2 * embedding
