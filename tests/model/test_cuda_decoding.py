"""The decode step in fixed places gives the logits of an ordinary pass, step after step, whatever joined or left.

On a GPU the steps are replayed from graphs; without one the same places are computed launch by launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from quire.core import KVSegment
from quire.errors import ModelUnsupported
from quire.model import GrowingKV, KVSpace, LoadedModel, Row, find_model, forward
from quire.model.backends import TorchBackend, TritonBackend
from quire.model.cuda import DecodeSteps
from quire.model.cuda.decoding import buckets

from .families import save_family
from .running import compile_chain, greedy_by_transformers

ALLOWED = 2e-3  # of a logit, in float32


@pytest.fixture(scope="module")
def models(tiny_model_dir: Path, device: str) -> tuple[LoadedModel, LoadedModel]:
    """One that decodes in fixed places, and one that does not."""
    plain = find_model(str(tiny_model_dir), tiny_model_dir).load(device=device, threads=1, kernels="torch")
    model = LoadedModel(plain.source, plain.plain, TritonBackend(plain.device))
    model.decoder = DecodeSteps(model, 12)
    return model, LoadedModel(plain.source, plain.plain, TorchBackend())


def ordinarily(model: LoadedModel, rows: Sequence[Row]) -> torch.Tensor:
    """Logits of `rows` by an ordinary pass that leaves them as they are."""
    copies = [Row(row.chain, row.kv.fork(), row.token_ids) for row in rows]
    logits = forward(model, copies)
    for row in copies:
        row.kv.release()
    return logits


def test_steps_with_requests_that_join_leave_grow_and_move(models: tuple[LoadedModel, LoadedModel]) -> None:
    model, other = models
    root = compile_chain(other, [list(range(3, 40))])
    leaf, side = (compile_chain(other, [ids], after=root) for ids in ([5, 6, 7], list(range(50, 75))))
    space = KVSpace(model.geometry, 2048, device=model.device)
    chains = {0: leaf, 1: side, 2: leaf, 3: (), 4: side, 5: root}
    kvs: dict[int, GrowingKV] = {}
    here: list[int] = []
    for step, present in enumerate([[0], [0, 1, 2], [0, 1, 2, 3, 4, 5], [5, 3, 1], [1, 4, 2, 5]]):
        for i in set(here) - set(present):
            kvs.pop(i).release()
        for i in present:
            if i not in kvs:
                kvs[i] = GrowingKV(model.geometry, space=space)
                forward(other, [Row(chains[i], kvs[i], [9 + i, 10, 11])])
                if i == 1:  # beyond one grain: its region grows, and may move
                    forward(other, [Row(chains[i], kvs[i], [12] * 60)])
        here = present
        for turn in range(2):
            rows = [Row(chains[i], kvs[i], [20 + i + step + turn]) for i in present]
            expected = ordinarily(other, rows)
            before = model.decoder.replayed if model.decoder else 0
            found = forward(model, rows)
            assert model.decoder
            assert model.decoder.replayed == before + 1, "it ran in fixed places"
            assert float((found - expected).abs().max()) < ALLOWED
            assert torch.equal(found.argmax(-1), expected.argmax(-1))


def test_a_greedy_answer_is_that_of_transformers(models: tuple[LoadedModel, LoadedModel]) -> None:
    model, _ = models
    ids = list(range(3, 30))
    chain = compile_chain(model, [ids])
    kv = GrowingKV(model.geometry, device=model.device)
    tokens = [int(forward(model, [Row(chain, kv, [40, 41])])[0].argmax())]
    for _ in range(7):
        tokens.append(int(forward(model, [Row(chain, kv, tokens[-1:])])[0].argmax()))
    assert tokens == greedy_by_transformers(model, [*ids, 40, 41], 8)


def test_what_is_no_decode_step_or_too_large_runs_as_any_pass(models: tuple[LoadedModel, LoadedModel]) -> None:
    model, other = models
    assert model.decoder
    before = model.decoder.replayed
    for count, new in ((2, 2), (17, 1)):
        rows = [Row((), GrowingKV(model.geometry, device=model.device), [7 + i] * new) for i in range(count)]
        expected = ordinarily(other, rows)
        assert float((forward(model, rows) - expected).abs().max()) < ALLOWED
    chain = compile_chain(other, [[3 + i] for i in range(12)])  # more segments than one request has places for
    row = Row(chain, GrowingKV(model.geometry, device=model.device), [7])
    expected = ordinarily(other, [row])
    assert float((forward(model, [row]) - expected).abs().max()) < ALLOWED
    assert model.decoder.replayed == before


def test_a_step_waits_for_layers_on_their_way(models: tuple[LoadedModel, LoadedModel]) -> None:
    model, _ = models

    class Gate:
        def __init__(self) -> None:
            self.asked: list[int] = []

        def wait(self, layer: int) -> None:
            self.asked.append(layer)

    gate = Gate()
    (bare,) = compile_chain(model, [[3, 4, 5]])
    chain = (KVSegment(bare.keys, bare.values, bare.position_start, bare.token_count, gate),)
    kv = GrowingKV(model.geometry, device=model.device)
    forward(model, [Row(chain, kv, [7, 8])])
    assert gate.asked == [0, 1], "layer by layer"
    forward(model, [Row(chain, kv, [9])])
    assert gate.asked == [0, 1, 1], "a replayed step cannot wait in between: for all of them before it"


def test_a_model_whose_window_could_be_reached_is_not_captured(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, device: str
) -> None:
    """Nobody looks at a plan while a graph is replayed, so what a plan may be refused for is refused before."""
    directory = save_family("mistral", tmp_path / "windowed", tiny_tokenizer, sliding_window=512)
    plain = find_model(str(directory), tmp_path).load(device=device, threads=1, kernels="torch")
    model = LoadedModel(plain.source, plain.plain, TritonBackend(plain.device))
    for layer in model.hf.model.layers:
        layer.self_attn.config.sliding_window = 100  # as a model would whose configuration does not say so
    with pytest.raises(ModelUnsupported, match="sliding-window"):
        DecodeSteps(model, 2)._steps[1].run()


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (3, [1, 2, 4]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 16, 24])]
)
def test_a_bucket_for_every_number_of_requests(most: int, expected: list[int]) -> None:
    assert buckets(most) == expected


def test_many_requests_have_few_buckets_with_little_padding() -> None:
    sizes = buckets(10_000)
    assert len(sizes) < 40
    assert sizes[-1] >= 512
    assert all(larger - smaller <= max(8, smaller // 8) for smaller, larger in pairwise(sizes))
