"""The fastest full prefill: every way is tried, by parts of the model that compute what the whole does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quire.bench.full_prefill import CLOSE, WIDE, Ways
from quire.model import LoadedModel, find_model, prefill

IDS = [7 * i % 500 + 3 for i in range(60)]


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """In bfloat16, as a processor may have to emulate."""
    return find_model(str(tiny_model_dir), tmp_path_factory.mktemp("home"), dtype="bfloat16").load()


def test_all_ways_are_tried_and_the_close_ones_measured(model: LoadedModel) -> None:
    found = Ways(model).attempt(IDS)
    assert list(found.tried) == ["transformers in bfloat16", WIDE, f"quire in bfloat16, {model.backend.identity}"]
    assert found.left_out == {}
    least = min(found.tried.values())
    assert least > 0
    assert set(found.contenders) == {name for name, seconds in found.tried.items() if seconds <= CLOSE * least}
    measured = found.measure(IDS)
    assert set(measured) == set(found.contenders)
    assert all(seconds > 0 for seconds in measured.values())
    assert {figure.name for figure in found.slower()} == {f"tried, {n}" for n in found.tried if n not in measured}


def test_a_way_without_memory_is_left_out_with_the_reason(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quire.bench.full_prefill.available_bytes", lambda _device: 1000)
    found = Ways(model).attempt(IDS)
    assert WIDE not in found.tried
    assert "0.0 GB are free" in found.left_out[WIDE]


def test_this_engine_can_be_left_out(model: LoadedModel) -> None:
    assert list(Ways(model, ours=False).attempt(IDS).tried) == ["transformers in bfloat16", WIDE]


def test_a_shallow_model_computes_the_first_layers(model: LoadedModel) -> None:
    shallow = model.shallow(1)
    whole, first = model.new_kv(), shallow.new_kv()
    prefill(model, (), whole, IDS, 16)
    prefill(shallow, (), first, IDS, 16)
    assert (len(whole.keys), len(first.keys)) == (2, 1)
    assert torch.equal(first.keys[0][:, : len(IDS)], whole.keys[0][:, : len(IDS)])
    assert torch.equal(first.values[0][:, : len(IDS)], whole.values[0][:, : len(IDS)])
    prompt = torch.tensor([IDS])
    with shallow.reference() as one, model.reference() as both:
        inner = [hf.model(input_ids=prompt, use_cache=True).past_key_values for hf in (one, both)]
        assert torch.equal(inner[0].layers[0].keys, inner[1].layers[0].keys)
        assert one.config.num_hidden_layers == 1
    assert model.plain.config.num_hidden_layers == 2
    assert len(model.plain.model.layers) == 2
