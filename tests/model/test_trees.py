"""Attention over random trees of segments, by both kernels, is attention over each request's whole context."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import KVGeometry, KVSegment
from quire.model import GrowingKV, Row
from quire.model.attention import AttentionPlan
from quire.model.backends import Backend, NativeBackend, TorchBackend
from quire.model.forward import order, plan_attention
from quire.model.kernels import Library, Unit

from .running import library_on

ALLOWED = {"float32": 3e-5, "bfloat16": 4e-2, "float16": 4e-3}
SCALE = 0.3


@dataclass
class Tree:
    """Requests on a random tree: their rows, and the new tokens' queries, keys and values by request."""

    rows: list[Row]
    queries: list[torch.Tensor]
    keys: list[torch.Tensor]
    values: list[torch.Tensor]


@st.composite
def trees(draw: st.DrawFn, longest: int = 1500, device: str = "cpu") -> Tree:
    """`longest`: keys of a segment; suffixes are shorter in proportion."""
    dtype = draw(st.sampled_from(list(ALLOWED)))
    geometry = KVGeometry(1, draw(st.integers(1, 3)), draw(st.sampled_from([8, 16, 40, 64, 80])), dtype)
    group = draw(st.sampled_from([1, 3, 4]))
    random = torch.Generator().manual_seed(draw(st.integers(0, 9999)))

    def some(heads: int, tokens: int) -> torch.Tensor:
        return torch.randn(heads, tokens, geometry.head_dim, generator=random).to(device, getattr(torch, dtype))

    def segment(after: tuple[KVSegment, ...]) -> tuple[KVSegment, ...]:
        tokens = draw(st.sampled_from([n for n in (1, 5, 127, 128, 129, 300, 1024, 1500) if n <= longest]))
        keys, values = some(geometry.kv_heads, tokens), some(geometry.kv_heads, tokens)
        return (*after, KVSegment((keys,), (values,), after[-1].position_end if after else 0, tokens))

    chains: list[tuple[KVSegment, ...]] = [(), segment(())]
    for _ in range(draw(st.integers(0, 3))):
        chains.append(segment(draw(st.sampled_from(chains))))
    tree = Tree([], [], [], [])
    for _ in range(draw(st.integers(1, 6))):
        before = draw(st.sampled_from([n for n in (0, 1, 30, 128, 200) if n <= longest]))
        new = draw(st.sampled_from([n for n in (1, 1, 2, 13, 40, 140) if 4 * n <= longest]))
        kv = GrowingKV(geometry, device=device)
        kv.reserve(before + new)
        kv.keys[0][:, :before], kv.values[0][:, :before] = (some(geometry.kv_heads, before) for _ in range(2))
        kv.length = before
        tree.rows.append(Row(draw(st.sampled_from(chains)), kv, [0] * new))
        tree.queries.append(some(geometry.kv_heads * group, new))
        tree.keys.append(some(geometry.kv_heads, new))
        tree.values.append(some(geometry.kv_heads, new))
    return tree


def attended(tree: Tree, which: list[int], backend: Backend) -> dict[int, torch.Tensor]:
    """What one pass over the requests `which` gives each of them, [tokens, heads, head_dim]."""
    rows = [tree.rows[i] for i in which]
    arranged = [which[i] for i in order(rows)]
    plan: AttentionPlan = plan_attention([tree.rows[i] for i in arranged], backend)
    q, k, v = (torch.cat([side[i] for i in arranged], 1) for side in (tree.queries, tree.keys, tree.values))
    parts = torch.split(plan.run(0, q, k, v, SCALE), [len(tree.rows[i].token_ids) for i in arranged])
    return dict(zip(arranged, parts, strict=True))


def slowly(tree: Tree, i: int) -> torch.Tensor:
    """Softmax attention of request `i` over its joined context, in float64."""
    row, before = tree.rows[i], tree.rows[i].kv.length
    sides = []
    for name, own in (("keys", tree.keys[i]), ("values", tree.values[i])):
        chain = [getattr(segment, name)[0] for segment in row.chain]
        joined = torch.cat([*chain, getattr(row.kv, name)[0][:, :before], own], 1).double()
        sides.append(joined.repeat_interleave(tree.queries[i].shape[0] // joined.shape[0], 0))
    key, value = sides
    scores = tree.queries[i].double() @ key.transpose(1, 2) * SCALE
    tokens, keys = scores.shape[1:]
    ahead = torch.ones(tokens, keys, dtype=torch.bool, device=scores.device).triu(keys - tokens + 1)
    return (torch.softmax(scores.masked_fill(ahead, float("-inf")), -1) @ value).transpose(0, 1)


@pytest.fixture(scope="module", params=list(Unit), ids=lambda unit: unit.name.lower())
def library(request: pytest.FixtureRequest) -> Library:
    return library_on(request.param)


@pytest.fixture(scope="module", params=[*Unit, None], ids=lambda unit: "torch" if unit is None else unit.name.lower())
def backend(request: pytest.FixtureRequest) -> Backend:
    return TorchBackend() if request.param is None else NativeBackend(library_on(request.param), threads=2)


@settings(max_examples=60, deadline=None)
@given(tree=trees())
def test_a_tree_is_attended_to_exactly(backend: Backend, tree: Tree) -> None:
    result = attended(tree, list(range(len(tree.rows))), backend)
    for i, row in enumerate(tree.rows):
        difference = (result[i].double() - slowly(tree, i)).abs().max()
        assert float(difference) < ALLOWED[row.kv.geometry.dtype]


@settings(max_examples=60, deadline=None)
@given(tree=trees(), threads=st.sampled_from([1, 2, 3]))
def test_our_kernel_gives_a_request_the_same_bits_in_any_company(library: Library, tree: Tree, threads: int) -> None:
    together = attended(tree, list(range(len(tree.rows))), NativeBackend(library, threads=1))
    other = NativeBackend(library, threads=threads)
    for i in range(len(tree.rows)):
        assert torch.equal(attended(tree, [i], other)[i], together[i])
