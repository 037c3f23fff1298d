"""Requests share one space without touching each other's KV, and all of it comes back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quire.core import KVGeometry
from quire.model import GrowingKV, KVSpace, KVSpaceFull
from quire.model.kv import GRAIN
from quire.model.spans import Spans

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=4, dtype="float32")
SIZE = 24  # units of a space small enough to be full most of the time


class Giving(RuleBasedStateMachine):
    """Spans against a list that has the owner of every unit."""

    def __init__(self) -> None:
        super().__init__()
        self.spans = Spans(SIZE)
        self.owners: list[int | None] = [None] * SIZE
        self.taken: dict[int, tuple[int, int]] = {}
        self.named = 0

    def free_run(self, owners: list[int | None], units: int) -> int | None:
        fits = (s for s in range(SIZE - units + 1) if all(o is None for o in owners[s : s + units]))
        return next(fits, None)

    def own(self, owner: int | None, start: int, units: int) -> None:
        self.owners[start : start + units] = [owner] * units

    @rule(units=st.integers(1, SIZE + 1))
    def take(self, units: int) -> None:
        expected = self.free_run(self.owners, units)
        start = self.spans.take(units)
        assert start == expected, "the lowest address that fits"
        if start is not None:
            self.named += 1
            self.taken[self.named] = (start, units)
            self.own(self.named, start, units)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(sorted(self.taken)))
        start, units = self.taken.pop(owner)
        self.spans.give(start, units)
        self.own(None, start, units)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), wanted=st.integers(1, SIZE))
    def resize(self, data: st.DataObject, wanted: int) -> None:
        owner = data.draw(st.sampled_from(sorted(self.taken)))
        start, units = self.taken[owner]
        found = self.spans.resize(start, units, wanted)
        without = [None if o == owner else o for o in self.owners]
        stays = start + wanted <= SIZE and all(o is None for o in without[start : start + wanted])
        assert found == (start if stays else self.free_run(without, wanted))
        if found is not None:
            self.own(None, start, units)
            self.own(owner, found, wanted)
            self.taken[owner] = (found, wanted)

    @invariant()
    def every_unit_is_counted_once(self) -> None:
        assert self.spans.used == sum(o is not None for o in self.owners) <= SIZE
        free = self.spans._free
        assert [u for s, e in free for u in range(s, e)] == [u for u, o in enumerate(self.owners) if o is None]
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(free)), "merged, in order"

    def teardown(self) -> None:
        for start, units in self.taken.values():
            self.spans.give(start, units)
        assert (self.spans.used, self.spans._free) == (0, [(0, SIZE)])


TestSpans = Giving.TestCase
TestSpans.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@dataclass
class Written:
    """A sequence in the space, and what was written into it: `tokens` numbers, one for each token."""

    kv: GrowingKV
    tokens: list[float]

    def write(self, count: int, number: float) -> None:
        self.kv.reserve(count)
        for layer in range(GEOMETRY.layers):
            here = slice(self.kv.length, self.kv.length + count)
            self.kv.keys[layer][:, here] = number + layer
            self.kv.values[layer][:, here] = -number - layer
        self.kv.length += count
        self.tokens += [number] * count

    def check(self) -> None:
        assert self.kv.length == len(self.tokens) <= self.kv.capacity
        expected = torch.tensor(self.tokens)[None, :, None].expand(GEOMETRY.kv_heads, -1, GEOMETRY.head_dim)
        for layer in range(GEOMETRY.layers):
            assert torch.equal(self.kv.keys[layer][:, : self.kv.length], expected + layer)
            assert torch.equal(self.kv.values[layer][:, : self.kv.length], -expected - layer)


class Sharing(RuleBasedStateMachine):
    """Sequences that grow, shrink, copy and end in one space keep their own tokens, wherever they are moved."""

    def __init__(self) -> None:
        super().__init__()
        self.space = KVSpace(GEOMETRY, 12 * GRAIN)
        self.all: list[Written] = []
        self.number = 0.0

    def some(self, data: st.DataObject) -> Written:
        return self.all[data.draw(st.integers(0, len(self.all) - 1))]

    @rule()
    def begin(self) -> None:
        self.all.append(Written(GrowingKV(GEOMETRY, space=self.space), []))

    @precondition(lambda self: self.all)
    @rule(data=st.data(), count=st.integers(1, 5 * GRAIN))
    def write(self, data: st.DataObject, count: int) -> None:
        written = self.some(data)
        self.number += 10
        before = self.space.used
        try:
            written.write(count, self.number)
        except KVSpaceFull:
            assert self.space.used == before

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        written = self.some(data)
        length = data.draw(st.integers(0, len(written.tokens)))
        written.kv.truncate(length)
        del written.tokens[length:]

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        written = self.some(data)
        written.kv.trim()
        assert written.kv.capacity - written.kv.length < GRAIN

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        written = self.some(data)
        written.kv.release()
        written.tokens.clear()
        assert written.kv.nbytes == 0

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        written = self.some(data)
        with contextlib.suppress(KVSpaceFull):
            self.all.append(Written(written.kv.fork(), list(written.tokens)))

    @invariant()
    def everyone_has_their_own(self) -> None:
        for written in self.all:
            written.check()
        assert self.space.used == sum(w.kv.capacity for w in self.all) <= self.space.capacity

    def teardown(self) -> None:
        for written in self.all:
            written.kv.release()
        assert self.space.used == 0


TestSpace = Sharing.TestCase
TestSpace.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 7), steps=st.lists(st.integers(1, 8 * GRAIN), max_size=6))
def test_whoever_is_alone_gets_all_of_the_space_wherever_it_began(start: int, steps: list[int]) -> None:
    space = KVSpace(GEOMETRY, 8 * GRAIN)
    before = GrowingKV(GEOMETRY, space=space)
    before.reserve(start * GRAIN)
    alone = Written(GrowingKV(GEOMETRY, space=space), [])
    alone.write(1, 1.0)
    before.release()
    for count in [*steps, 8 * GRAIN]:
        count = min(count, 8 * GRAIN - alone.kv.length)
        if count:
            alone.write(count, float(count))
            alone.check()
    assert alone.kv.length == space.capacity


def test_growing_takes_as_little_as_will_do_where_twice_as_much_is_not_free() -> None:
    space = KVSpace(GEOMETRY, 5 * GRAIN)
    kv = GrowingKV(GEOMETRY, space=space)
    kv.reserve(3 * GRAIN)
    kv.length = 3 * GRAIN
    kv.reserve(1)
    assert kv.capacity == 4 * GRAIN
    with pytest.raises(KVSpaceFull):
        kv.reserve(2 * GRAIN + 1)
    assert kv.capacity == 4 * GRAIN


@pytest.mark.parametrize("make", [lambda: None, lambda: KVSpace(GEOMETRY, 10 * GRAIN)], ids=["own", "shared"])
def test_heads_lie_apart_and_their_tokens_together(make: Callable[[], KVSpace | None]) -> None:
    """What kernels count on: elements of a token are neighbours, and so are the tokens of a head."""
    kv = GrowingKV(GEOMETRY, space=make())
    kv.reserve(1)
    for tensor in (*kv.keys, *kv.values):
        assert tensor.shape == (GEOMETRY.kv_heads, kv.capacity, GEOMETRY.head_dim)
        assert tensor.stride()[1:] == (GEOMETRY.head_dim, 1)


def test_a_space_that_is_not_written_takes_no_memory() -> None:
    psutil = pytest.importorskip("psutil")
    before = psutil.Process().memory_info().rss
    space = KVSpace(KVGeometry(8, 8, 64, "float32"), 1 << 15)
    kv = GrowingKV(space.geometry, space=space)
    kv.reserve(GRAIN)
    assert space.capacity * space.geometry.bytes_per_token == 1 << 30
    assert psutil.Process().memory_info().rss - before < 64 << 20
