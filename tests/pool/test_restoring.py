"""No layer is read before its copy is made, no staging buffer is filled while it is read, and what fails says so."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.core import KVSegment
from quire.errors import DeviceFull, EngineBusy, RestoreFailed
from quire.pool.device_room import DeviceRoom
from quire.pool.restoring import Restorer, Restoring
from quire.pool.streams import CopyStream, CudaStream, HostStream

CUDA = torch.cuda.is_available()


class UnevenStream(HostStream):
    """Copies that take their time, a different one each, so that whatever may overtake does."""

    def __init__(self, seed: int, longest: float = 0.001) -> None:
        self._draw = random.Random(seed)
        self._longest = longest
        super().__init__()

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        seconds = self._draw.random() * self._longest
        self._orders.put(lambda: time.sleep(seconds))
        super().copy(target, source)


class FailingStream(HostStream):
    """The copy number `at` cannot be ordered."""

    def __init__(self, at: int) -> None:
        self._left = at
        super().__init__()

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self._left -= 1
        if self._left == 0:
            raise OSError("the bus is on fire")
        super().copy(target, source)


def open_test_stream(seed: int = 0) -> CopyStream:
    return CudaStream(torch.device("cuda")) if CUDA else UnevenStream(seed)


def segment(layers: int, heads: int, tokens: int, seed: int = 0) -> KVSegment:
    draw = torch.Generator().manual_seed(seed)
    sides = [[torch.randn(heads, tokens, 8, generator=draw).bfloat16() for _ in range(layers)] for _ in range(2)]
    return KVSegment(tuple(sides[0]), tuple(sides[1]), 0, tokens)


def memory_like(stream: CopyStream, source: KVSegment) -> KVSegment:
    memory = stream.memory((2, len(source.keys), *source.keys[0].shape), source.keys[0].dtype).fill_(float("nan"))
    return KVSegment(memory[0].unbind(0), memory[1].unbind(0), 0, source.token_count)


def equal(there: KVSegment, here: KVSegment, layer: int) -> bool:
    pairs = ((there.keys, here.keys), (there.values, here.values))
    return all(torch.equal(a[layer].cpu(), b[layer]) for a, b in pairs)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 40)), min_size=1, max_size=4),
    slots=st.integers(1, 4),
    slot_bytes=st.sampled_from([32, 100, 4096]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_a_layer_is_whole_once_its_reader_was_let_through(
    shapes: list[tuple[int, int, int]], slots: int, slot_bytes: int, threads: int, seed: int
) -> None:
    """Several modules at once, each with a reader that goes through its layers as a forward pass does."""
    stream = open_test_stream(seed)
    restorer = Restorer(stream, slots=slots, slot_bytes=slot_bytes, threads=threads)
    sources = [segment(*shape, seed=i) for i, shape in enumerate(shapes)]
    targets = [memory_like(stream, source) for source in sources]
    restorings = [restorer.start(s, t) for s, t in zip(sources, targets, strict=True)]
    wrong: list[tuple[int, int]] = []

    def read(which: int) -> None:
        for layer in range(len(sources[which].keys)):
            restorings[which].wait(layer)
            if not equal(targets[which], sources[which], layer):
                wrong.append((which, layer))

    readers = [threading.Thread(target=read, args=(which,)) for which in range(len(sources))]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    restorer.close()
    assert not wrong
    assert not any(reader.is_alive() for reader in readers)


def test_early_layers_do_not_wait_for_late_ones() -> None:
    """A reader is let through to layer 0 while the last layer is still on its way."""
    stream = UnevenStream(0, longest=0.05)
    restorer = Restorer(stream, slots=2, slot_bytes=256, threads=2)
    source = segment(8, 1, 64)
    target = memory_like(stream, source)
    restoring = restorer.start(source, target)
    restoring.wait(0)
    assert equal(target, source, 0)
    assert not equal(target, source, 7), "all of it was waited for"
    restoring.wait(7)
    assert equal(target, source, 7)
    restorer.close()


def test_the_first_layers_of_a_later_module_come_before_the_last_ones_of_an_earlier() -> None:
    stream = UnevenStream(1, longest=0.02)
    restorer = Restorer(stream, slots=1, slot_bytes=4096, threads=1)
    sources = [segment(12, 1, 64, seed) for seed in range(2)]
    targets = [memory_like(stream, source) for source in sources]
    restorings = [restorer.start(s, t) for s, t in zip(sources, targets, strict=True)]
    restorings[1].wait(0)
    assert not equal(targets[0], sources[0], 11)
    for restoring in restorings:
        restoring.wait(11)
    restorer.close()


@pytest.mark.parametrize("at", [1, 3, 7])
def test_what_fails_in_the_middle_lets_no_later_layer_through(at: int) -> None:
    stream = FailingStream(at)
    restorer = Restorer(stream, slots=2, slot_bytes=1 << 12, threads=1)
    source = segment(4, 1, 16)  # two pieces each
    target = memory_like(stream, source)
    restoring = restorer.start(source, target)
    whole = (at - 1) // 2  # layers
    for layer in range(whole):
        restoring.wait(layer)
        assert equal(target, source, layer)
    for layer in range(whole, 4):
        with pytest.raises(RestoreFailed, match="on fire"):
            restoring.wait(layer)
    other = memory_like(stream, source)
    again = restorer.start(source, other)
    again.wait(3)
    assert all(equal(other, source, layer) for layer in range(4)), "the next module is none the worse"
    restorer.close()


def test_giving_up_stops_the_copying_and_returns_when_nothing_is_read_any_more() -> None:
    stream = UnevenStream(2, longest=0.02)
    restorer = Restorer(stream, slots=2, slot_bytes=128, threads=2)
    source = segment(6, 1, 64)
    target = memory_like(stream, source)
    restoring = restorer.start(source, target)
    restoring.wait(0)
    restoring.give_up(RestoreFailed("nobody wants it"))
    at_return = [t.clone() for t in (*target.keys, *target.values)]
    for side in (source.keys, source.values):
        for tensor in side:
            tensor.fill_(0)  # as memory that was given back and is used for something else
    with pytest.raises(RestoreFailed, match="nobody wants it"):
        restoring.wait(5)
    restorer.close()
    for before, after in zip(at_return, (*target.keys, *target.values), strict=True):
        assert torch.equal(before.view(torch.int16), after.view(torch.int16)), "nothing came afterwards"


@dataclass
class Bench:
    room: DeviceRoom
    modules: dict[str, KVSegment]
    size: int

    def lease(self, *names: str) -> tuple[KVSegment, ...]:
        return self.room.lease([(name, self.modules[name]) for name in names])


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Room for two of the modules a, b, c, which are of one size."""
    modules = {name: segment(3, 1, 20, seed) for seed, name in enumerate("abc")}
    size = 2 * 3 * 20 * 8 * 2
    stream = open_test_stream()
    room = DeviceRoom(stream, 2 * size, Restorer(stream, slots=2, slot_bytes=100, threads=2))
    yield Bench(room, modules, size)
    room.close()


def gate(segment: KVSegment) -> Restoring:
    assert isinstance(segment.gate, Restoring)
    return segment.gate


def test_a_module_is_brought_once_for_all_its_users(bench: Bench) -> None:
    (first,) = bench.lease("a")
    (second,) = bench.lease("a")
    assert first is second
    gate(first).wait(2)
    assert all(equal(first, bench.modules["a"], layer) for layer in range(3))
    assert (bench.room.state().restored, bench.room.state().bytes) == (1, bench.size)


def test_idle_modules_go_the_longest_unused_first_and_come_back(bench: Bench) -> None:
    for name in ("a", "b", "a"):
        bench.lease(name)
        bench.room.give_back([name])
    (c,) = bench.lease("c")
    assert (bench.room.state().modules, bench.room.state().evicted) == (2, 1)
    assert bench.lease("a")
    assert bench.room.state().restored == 3, "b went, a stayed"
    bench.room.give_back(["c", "a"])
    (b,) = bench.lease("b")
    gate(b).wait(2)
    assert equal(b, bench.modules["b"], 2)
    assert c is not bench.lease("c")[0], "it went in turn"


def test_what_is_in_use_stays_and_who_comes_then_is_told_to_ask_again(bench: Bench) -> None:
    a, b = bench.lease("a", "b")
    with pytest.raises(EngineBusy, match="in use"):
        bench.lease("c")
    with pytest.raises(DeviceFull) as refused:
        bench.lease("a", "b", "c")
    assert "pool.device_bytes" in refused.value.hint
    for name, held in (("a", a), ("b", b)):
        gate(held).wait(2)
        assert equal(held, bench.modules[name], 2)
    bench.room.give_back(["a", "b"])
    assert bench.lease("a", "c"), "a chain's own modules are not evicted for one another"
    assert bench.room.state().restored == 3


def test_a_chain_that_does_not_fit_leaves_no_users_behind(bench: Bench) -> None:
    bench.lease("a")
    bench.lease("b")
    bench.room.give_back(["b"])
    with pytest.raises(EngineBusy):
        bench.lease("b", "c")  # b is there, a is in use
    bench.room.give_back(["a"])
    assert bench.lease("b", "c")


def test_a_module_that_failed_is_brought_anew_for_the_next_user() -> None:
    stream = FailingStream(2)
    room = DeviceRoom(stream, 1 << 20, Restorer(stream, slots=1, slot_bytes=1 << 12, threads=1))
    source = segment(3, 1, 20)
    (broken,) = room.lease([("a", source)])
    with pytest.raises(RestoreFailed):
        gate(broken).wait(2)
    room.give_back(["a"])
    (whole,) = room.lease([("a", source)])
    gate(whole).wait(2)
    assert all(equal(whole, source, layer) for layer in range(3))
    room.close()
