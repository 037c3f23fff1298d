"""Whatever way a prompt is cut and whoever shares the pass, the logits are those of one full prefill."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.errors import ModelUnsupported
from quire.model import GrowingKV, LoadedModel, Row, check_exact, forward, prefill

from .running import Chain, compile_chain, full_logits, greedy, greedy_by_transformers

TOLERANCE = 1e-3
FEW = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
tokens = st.integers(3, 599)
segment_ids = st.lists(tokens, min_size=1, max_size=40)
chunks = st.integers(1, 50)


@FEW
@given(segments=st.lists(segment_ids, min_size=1, max_size=3), suffix=segment_ids, compiled=chunks, asked=chunks)
def test_restored_logits_are_those_of_a_full_prefill(
    model: LoadedModel, segments: list[list[int]], suffix: list[int], compiled: int, asked: int
) -> None:
    chain = compile_chain(model, segments, compiled)
    restored = prefill(model, chain, GrowingKV(model.geometry), suffix, asked)
    whole = full_logits(model, [*itertools.chain(*segments), *suffix])
    assert float((restored - whole).abs().max()) < TOLERANCE


def test_twenty_four_greedy_tokens_are_the_same(model: LoadedModel) -> None:
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, 600, (60,), generator=draw).tolist()
        chain = compile_chain(model, [ids[:21], ids[21:40]], 16)
        assert greedy(model, chain, ids[40:], 24) == greedy_by_transformers(model, ids, 24)


@FEW
@given(seed=st.integers(0, 2**32))
def test_requests_in_one_pass_do_not_touch_each_other(model: LoadedModel, seed: int) -> None:
    """Rows of different chains, some in prefill and some decoding, in any order, against one request at a time."""
    draw = random.Random(seed)

    def some(most: int) -> list[int]:
        return [draw.randrange(3, 600) for _ in range(draw.randint(1, most))]

    root, left, right = some(40), some(40), some(40)
    trunk = compile_chain(model, [root])
    branches: list[tuple[Chain, list[int]]] = [
        ((), []),
        (trunk, root),
        (compile_chain(model, [left], after=trunk), root + left),
        (compile_chain(model, [right], after=trunk), root + right),
        (compile_chain(model, [right]), right),
    ]
    requests = [(*draw.choice(branches), some(30), GrowingKV(model.geometry)) for _ in range(5)]
    waiting = list(range(len(requests)))
    while waiting:
        taken = draw.sample(waiting, draw.randint(1, len(waiting)))
        pieces = []
        for i in taken:
            _, _, ids, kv = requests[i]
            pieces.append(ids[kv.length : kv.length + draw.choice([1, 1, 2, 20])])
        rows = [Row(requests[i][0], requests[i][3], piece) for i, piece in zip(taken, pieces, strict=True)]
        for i, logits in zip(taken, forward(model, rows), strict=True):
            _, known, ids, kv = requests[i]
            alone = full_logits(model, [*known, *ids[: kv.length]])
            assert float((logits - alone).abs().max()) < TOLERANCE
        waiting = [i for i in waiting if requests[i][3].length < len(requests[i][2])]


def test_it_is_proved_before_anything_is_compiled(model: LoadedModel) -> None:
    check_exact(model)


NEAR_TIE = 0.25  # logits: two steps of bfloat16 at the size of this model's logits
PROMPTS = [
    "The lighthouse keeper wrote in his log that the fog had not lifted for",
    "Refunds are paid within fourteen days. A customer who returns a lamp on the twentieth day",
]


def test_the_default_model_gives_the_same_greedy_tokens_in_bfloat16(smol_model: LoadedModel) -> None:
    """A disagreement counts only where the full prefill itself was not torn between two tokens."""
    words = smol_model.tokenizer.words
    for number, prompt in enumerate(PROMPTS):
        static, suffix = words("Keep to the facts below.\n\n" + " ".join(PROMPTS) + "\n\n"), words(prompt)
        chain = compile_chain(smol_model, [static[:20], static[20:]], 32)
        restored = greedy(smol_model, chain, suffix, 24)
        whole = greedy_by_transformers(smol_model, [*static, *suffix], 24)
        agreeing = next((i for i, (a, b) in enumerate(zip(restored, whole, strict=True)) if a != b), 24)
        if agreeing < 24:
            logits = full_logits(smol_model, [*static, *suffix, *whole[:agreeing]])
            gap = float(logits[whole[agreeing]] - logits[restored[agreeing]])
            print(f"prompt {number}: {agreeing} of 24 agree, the next two tokens are {gap:.3f} logits apart")
            assert gap < NEAR_TIE


def test_a_model_that_depends_on_more_than_its_kv_is_found_out(llama: LoadedModel) -> None:
    """The proof has teeth: with the rotary angles of another base, a chain means something else."""
    angles = llama.hf.model.rotary_emb.inv_freq
    kept = angles.clone()

    def drift(_module: object, _inputs: object, named: dict[str, torch.Tensor]) -> None:
        angles.copy_(kept if (named["position_ids"] == 0).any() else kept / 2)

    hook = llama.hf.model.rotary_emb.register_forward_pre_hook(drift, with_kwargs=True)
    try:
        with pytest.raises(ModelUnsupported, match="differ by"):
            check_exact(llama)
    finally:
        hook.remove()
        angles.copy_(kept)
    check_exact(llama)
