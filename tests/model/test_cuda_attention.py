"""The GPU's attention over random trees of segments is attention over each request's whole context.

Without a GPU the very same kernels run in Triton's interpreter.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.core import KVGeometry, KVSegment
from quire.model import GrowingKV, Row
from quire.model.backends import Backend, TorchBackend, TritonBackend
from quire.model.cuda import tables
from quire.model.cuda.tables import make_tables
from quire.model.forward import spans

from .test_trees import ALLOWED, Tree, attended, slowly, trees

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
LONGEST, EXAMPLES = (1500, 80) if CUDA else (160, 7)  # the interpreter is slow


@pytest.mark.parametrize(
    "backend",
    [TritonBackend(torch.device(DEVICE)), pytest.param(TorchBackend(), marks=pytest.mark.gpu)],
    ids=["triton", "torch"],
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees(longest=LONGEST, device=DEVICE))
def test_a_tree_is_attended_to_exactly(backend: Backend, tree: Tree) -> None:
    result = attended(tree, list(range(len(tree.rows))), backend)
    for i, row in enumerate(tree.rows):
        difference = (result[i].double() - slowly(tree, i)).abs().max()
        assert float(difference) < ALLOWED[row.kv.geometry.dtype]


@settings(max_examples=100, deadline=None)
@given(
    group=st.integers(1, 40),
    pieces=st.integers(1, 200),
    lengths=st.lists(st.integers(1, 5000), max_size=3),
    rows=st.lists(st.tuples(st.integers(1, 300), st.integers(0, 900), st.integers(0, 3)), min_size=1, max_size=6),
)
def test_every_token_meets_every_key_it_may_see_once(
    group: int, pieces: int, lengths: list[int], rows: list[tuple[int, int, int]]
) -> None:
    geometry = KVGeometry(1, 1, 4, "float32")
    chain: tuple[KVSegment, ...] = ()
    for length in lengths:
        empty = torch.empty(1, length, 4)
        chain = (*chain, KVSegment((empty,), (empty,), chain[-1].position_end if chain else 0, length))
    batch = []
    for new, before, depth in sorted(rows, key=lambda row: -row[2]):
        kv = GrowingKV(geometry)
        kv.reserve(before + new)
        kv.length = before
        batch.append(Row(chain[:depth], kv, [0] * new))
    shared, suffixes = spans(batch)
    made = make_tables(shared, suffixes, group=group, wide_rows=max(32, 64), pieces=pieces)
    works = [w for name in ("narrow", "wide") for w in made.arrays[name].tolist()]
    met: dict[tuple[int, int], list[tuple[int, int]]] = {}
    places: list[int] = []
    for count, first, source, begin, end, sees, _stride, slot in works:
        assert 0 < count <= (64 if count > tables.NARROW else tables.NARROW)
        assert begin < end
        for nth in range(count // group):
            met.setdefault((first + nth, source), []).append((begin, min(end, sees + nth)))
        places.extend(range(slot, slot + count))
    assert sorted(places) == list(range(made.rows)), "no two results in one place"
    expected = {(t, i): s.segment.token_count for i, s in enumerate(shared) for t in range(s.start, s.end)}
    for i, s in enumerate(suffixes, start=len(shared)):
        expected |= {(t, i): s.before + t - s.start + 1 for t in range(s.start, s.end)}
    assert met.keys() == expected.keys()
    for which, keys in expected.items():
        seen = [key for begin, end in met[which] for key in range(begin, end)]
        assert sorted(seen) == list(range(keys))


def test_what_does_not_begin_on_a_boundary_is_refused() -> None:
    geometry = KVGeometry(1, 1, 4, "float32")
    kv = GrowingKV(geometry)
    kv.reserve(1)
    odd = torch.empty(41)[1:].view(1, 10, 4)
    shared, suffixes = spans([Row((KVSegment((odd,), (odd,), 0, 10),), kv, [0])])
    with pytest.raises(ValueError, match="multiples of 16"):
        make_tables(shared, suffixes, group=1, wide_rows=32, pieces=1)
