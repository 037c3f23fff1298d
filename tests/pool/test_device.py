"""Where the model computes elsewhere, chains are leased there: copied while they are verified, or not used at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from quire import Project, open_project
from quire.access import LOCAL, Policy
from quire.core import KVSegment
from quire.errors import ChecksumMismatch, DeviceFull
from quire.model import ModelFacts, Row, forward
from quire.pool import DeviceRoom, Pool
from quire.pool.restoring import Restorer
from quire.pool.streams import open_stream

from .conftest import chain


@pytest.fixture
def room(device: str) -> Iterator[DeviceRoom]:
    stream = open_stream(torch.device(device))
    room = DeviceRoom(stream, 1 << 30, Restorer(stream, slots=2, slot_bytes=4096, threads=2))
    yield room
    room.close()


def pool_of(project: Project, facts: ModelFacts, room: DeviceRoom, max_bytes: int = 1 << 40) -> Pool:
    return Pool(project.store, facts, max_bytes=max_bytes, policy=Policy(), device=room)


def wait(segment: KVSegment) -> None:
    assert segment.gate is not None
    segment.gate.wait(len(segment.keys) - 1)


def test_a_chain_has_the_files_bytes_on_the_device(project: Project, facts: ModelFacts, room: DeviceRoom) -> None:
    pool = pool_of(project, facts, room)
    with (
        pool.lease(chain(project), LOCAL) as lease,
        Pool(project.store, facts, max_bytes=0, policy=Policy()).lease(chain(project), LOCAL) as mapped,
    ):
        for there, here in zip(lease.segments, mapped.segments, strict=True):
            wait(there)
            assert (there.position_start, there.token_count) == (here.position_start, here.token_count)
            for a, b in zip((*there.keys, *there.values), (*here.keys, *here.values), strict=True):
                assert torch.equal(a.cpu(), b)
                assert a.data_ptr() != b.data_ptr()
    assert (pool.state().leases, pool.state().device.modules, pool.state().device.restored) == (0, 2, 2)
    with pool.lease(chain(project, "shipping"), LOCAL):
        assert pool.state().device.restored == 3, "its parent was there"


def test_a_question_behind_a_chain_on_its_way_gets_the_logits_of_one_in_place(
    project: Project, facts: ModelFacts, room: DeviceRoom
) -> None:
    model, ids = project.model, [7, 8, 9, 10]
    with Pool(project.store, facts, max_bytes=0, policy=Policy()).lease(chain(project), LOCAL) as mapped:
        expected = forward(model, [Row(mapped.segments, model.new_kv(), ids)])
    with pool_of(project, facts, room).lease(chain(project), LOCAL) as lease:
        segments = lease.segments
        if model.device.type != segments[0].keys[0].device.type:
            pytest.skip("this project's model is on the CPU")
        assert torch.equal(forward(model, [Row(segments, model.new_kv(), ids)]), expected)


def test_a_damaged_module_is_not_on_the_device_either(project: Project, facts: ModelFacts, room: DeviceRoom) -> None:
    pool = pool_of(project, facts, room)
    shard = project.store.locate(chain(project)[-1].digest) / "kv-00000.safetensors"
    good = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(ChecksumMismatch):
            pool.lease(chain(project), LOCAL)
        assert pool.state().device.modules == 1, "its parent alone"
    shard.write_bytes(good)
    with pool.lease(chain(project), LOCAL) as lease:
        wait(lease.segments[-1])


def test_what_is_closed_on_the_host_leaves_the_device(project: Project, facts: ModelFacts, room: DeviceRoom) -> None:
    pool = pool_of(project, facts, room, max_bytes=0)
    lease = pool.lease(chain(project), LOCAL)
    pool.close()
    assert (pool.state().modules, pool.state().device.modules) == (2, 2), "leased"
    lease.release()
    assert (pool.state().modules, pool.state().device.modules) == (0, 0)


def test_a_chain_larger_than_the_budget_is_refused_and_leaves_nothing_held(
    project: Project, facts: ModelFacts, device: str
) -> None:
    stream = open_stream(torch.device(device))
    room = DeviceRoom(stream, 1000, Restorer(stream, slots=1, slot_bytes=4096, threads=1))
    pool = pool_of(project, facts, room, max_bytes=0)
    with pytest.raises(DeviceFull, match="1,000"):
        pool.lease(chain(project), LOCAL)
    assert (pool.state().leases, pool.state().modules, pool.state().device.modules) == (0, 0, 0)
    pool.end()


@pytest.mark.gpu
def test_a_project_on_a_gpu_answers_as_on_the_cpu(write_project: Callable[..., Path], tmp_path: Path) -> None:
    """Compiled there, restored there, decoded from graphs: float32, so the tokens are the same."""
    told = []
    for place in ("cpu", "cuda"):
        root = write_project(tmp_path / place, {"shop": "A bolt costs 3 pounds. " * 20}, **{"model.device": place})
        with open_project(root) as project:
            project.build()
            answers = [project.ask(f"What costs {n} pounds?", max_tokens=12) for n in range(5)]
            told.append(["".join(delta.text for delta in answer) for answer in answers])
            if place == "cuda":
                assert project.model.decoder
                assert project.model.decoder.replayed > 0
    assert told[0] == told[1]
