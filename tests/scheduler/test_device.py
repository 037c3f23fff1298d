"""The whole way of a request on a device: modules brought there while it is computed, decoding in fixed places.

Without a GPU the same parts run on the CPU: copies by a thread, kernels in Triton's interpreter, steps without a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quire import Project, Turn
from quire.access import LOCAL, Policy
from quire.answering import Question
from quire.core import Sampling
from quire.engine import LocalEngine, Request, Sessions
from quire.model import KVSpace, LoadedModel, find_model
from quire.model.backends import TritonBackend
from quire.model.cuda import DecodeSteps
from quire.pool import DeviceRoom, Pool
from quire.pool.restoring import Restorer
from quire.pool.streams import open_stream
from quire.scheduler import Scheduler

from .driving import Inbox, scheduling

GREEDY = Sampling(max_tokens=5, ignore_eos=True)
ASKED = [("What costs 3 pounds?", "prices"), ("When?", "shipping"), ("Who?", "company"), ("Why?", "prices")]


@pytest.fixture
def model(tiny_model_dir: Path, device: str) -> LoadedModel:
    plain = find_model(str(tiny_model_dir), tiny_model_dir).load(device=device, threads=1, kernels="torch")
    model = LoadedModel(plain.source, plain.plain, TritonBackend(plain.device))
    model.decoder = DecodeSteps(model, len(ASKED) + 1)
    return model


@pytest.fixture
def pool(project: Project, model: LoadedModel) -> Iterator[Pool]:
    stream = open_stream(model.device)
    room = DeviceRoom(stream, 1 << 30, Restorer(stream, slots=2, slot_bytes=4096, threads=2))
    pool = Pool(project.store, model.facts, max_bytes=1 << 30, policy=Policy(), device=room)
    yield pool
    pool.end()


def test_answers_on_a_device_are_those_of_the_cpu(project: Project, model: LoadedModel, pool: Pool) -> None:
    with scheduling(project) as (_, submit):
        expected = [submit(text, GREEDY, module=module)[1] for text, module in ASKED]
        assert all(inbox.reason == "length" for inbox in expected)
    space = KVSpace(model.geometry, 4096, device=model.device)
    engine = LocalEngine(model, space, Sessions(space, 1 << 20))
    scheduler = Scheduler(engine, max_sequences=8, step_tokens=64, queue=8)
    try:
        inboxes = []
        for text, module in [*ASKED, ("Never mind", "shipping")]:
            chain = project.registry.chain(project.registry.live(module))
            suffix = suffix_ids(project, text, module)
            inboxes.append(Inbox())
            ticket = scheduler.submit(Request(pool.lease(chain, LOCAL), suffix, GREEDY), inboxes[-1])
        scheduler.cancel(ticket)
        for inbox, theirs in zip(inboxes, expected, strict=False):
            assert inbox.reason == "length"
            assert inbox.token_ids == theirs.token_ids
        assert inboxes[-1].reason in {"cancelled", "length"}
    finally:
        scheduler.stop()
    assert model.decoder
    assert model.decoder.replayed > 0
    state = pool.state()
    assert (state.leases, state.device.modules, state.device.restored) == (0, 3, 3)
    assert space.used == 0


def suffix_ids(project: Project, text: str, module: str) -> list[int]:
    """Token ids of a question as the engine gets them."""
    prepared = project.runtime.answerer.prepare(Question((Turn("user", text),), module=module), LOCAL)
    prepared.release()
    return prepared.suffix_ids
