"""Attention in parts, merged, is attention over the whole."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import KVGeometry
from quire.model import GrowingKV, merge, partial_attention, torch_attention

DTYPES = {"float32": 3e-5, "bfloat16": 2e-2, "float16": 2e-3}


def whole(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Softmax attention in float64; the last query sees all keys, each one before it one less."""
    groups = query.shape[0] // key.shape[0]
    key, value = (t.double().repeat_interleave(groups, 0) for t in (key, value))
    scores = query.double() @ key.transpose(1, 2) * scale
    tokens, keys = scores.shape[1:]
    ahead = torch.ones(tokens, keys, dtype=torch.bool).triu(keys - tokens + 1)
    return torch.softmax(scores.masked_fill(ahead, float("-inf")), -1) @ value


@settings(max_examples=30, deadline=None)
@given(
    kv_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    head_dim=st.sampled_from([8, 16, 64]),
    tokens=st.integers(1, 20),
    lengths=st.lists(st.integers(1, 70), max_size=3),
    dtype=st.sampled_from(list(DTYPES)),
    sharp=st.sampled_from([0.1, 1.0, 8.0]),
    seed=st.integers(0, 999),
)
def test_parts_merge_to_the_whole(
    kv_heads: int, groups: int, head_dim: int, tokens: int, lengths: list[int], dtype: str, sharp: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw).to(getattr(torch, dtype))

    query = some(kv_heads * groups, tokens, head_dim) * sharp
    parts = [(some(kv_heads, n, head_dim), some(kv_heads, n, head_dim)) for n in (*lengths, tokens)]
    expected = whole(query, torch.cat([k for k, _ in parts], 1), torch.cat([v for _, v in parts], 1), 0.3)
    for device_kernel in (partial_attention, torch_attention._materialized):
        outputs, weights = [], []
        for number, (key, value) in enumerate(parts):
            own = number == len(lengths)
            if device_kernel is partial_attention:
                output, weight = partial_attention(query, key, value, scale=0.3, causal=own)
            else:
                output, weight = torch_attention._materialized(query, key, value, 0.3, own)
            outputs.append(output.float())
            weights.append(weight)
        merged = merge(torch.stack(outputs), torch.stack(weights))
        assert float((merged - expected).abs().max()) < DTYPES[dtype]


def test_an_empty_place_weighs_nothing() -> None:
    outputs, weights = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 4)
    outputs[1], weights[1] = 0.0, float("-inf")
    assert torch.equal(merge(outputs, weights), outputs[0])


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["grow", "cut", "fork"]), st.integers(0, 300)), max_size=15))
def test_a_growing_kv_keeps_what_was_written(steps: list[tuple[str, int]]) -> None:
    geometry = KVGeometry(2, 2, 4, "float32")
    kv, written = GrowingKV(geometry), torch.empty(2, 0, 4)
    for what, count in steps:
        if what == "grow":
            kv.reserve(count)
            fresh = torch.randn(2, count, 4)
            for layer in range(2):
                kv.keys[layer][:, kv.length : kv.length + count] = fresh + layer
                kv.values[layer][:, kv.length : kv.length + count] = -fresh - layer
            kv.length += count
            written = torch.cat([written, fresh], 1)
        elif what == "cut":
            kv.truncate(min(count, kv.length))
            written = written[:, : kv.length]
        else:
            other, kv = kv, kv.fork()
            for tensor in (*other.keys, *other.values):
                tensor.fill_(7.0)
        for layer in range(2):
            assert torch.equal(kv.keys[layer][:, : kv.length], written + layer)
            assert torch.equal(kv.values[layer][:, : kv.length], -written - layer)
        assert kv.length <= kv.capacity
        assert kv.nbytes == sum(t.nbytes for t in (*kv.keys, *kv.values))
