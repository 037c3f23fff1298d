"""Whatever happens to one request, the others go on, and nothing stays leased."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from quire import Answer, Project, Turn
from quire.answering import Question
from quire.core import Delta, Sampling
from quire.engine import LocalEngine
from quire.errors import EngineBusy, EngineError, EngineStopped, QuireError
from quire.scheduler import Scheduler, Ticket

LONG = Sampling(max_tokens=400, ignore_eos=True)


class Inbox:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.items: list[Delta | QuireError] = []
        self.ended = threading.Event()

    def __call__(self, item: Delta | QuireError) -> None:
        self.items.append(item)
        if isinstance(item, QuireError) or item.finish_reason:
            self.ended.set()

    @property
    def end(self) -> Delta | QuireError:
        assert self.ended.wait(60)
        return self.items[-1]

    @property
    def reason(self) -> str | None:
        return self.end.finish_reason if isinstance(self.end, Delta) else self.end.code

    @property
    def token_ids(self) -> list[int]:
        return [t for item in self.items if isinstance(item, Delta) for t in item.token_ids]


Submit = Callable[..., tuple[Ticket, Inbox]]


@contextmanager
def scheduling(project: Project, *, max_sequences: int = 64, queue: int = 256) -> Iterator[tuple[Scheduler, Submit]]:
    """A scheduler of its own on the project's model, and a function that submits a question to it."""
    engine = LocalEngine(project.model, step_tokens=64)
    scheduler = Scheduler(engine, max_sequences=max_sequences, queue=queue)

    def submit(text: str = "Why?", sampling: Sampling = LONG, sink: Any = None) -> tuple[Ticket, Inbox]:
        question = Question((Turn("user", text),), module="prices", sampling=sampling)
        prepared = project.runtime.answerer.prepare(question)
        inbox = sink or Inbox()
        request = prepared.request()
        try:
            return scheduler.submit(request, inbox), inbox
        except QuireError:
            request.lease.release()
            raise

    try:
        yield scheduler, submit
    finally:
        scheduler.stop()


@contextmanager
def before_each_pass(project: Project, act: Callable[[], object]) -> Iterator[None]:
    def hooked(*_: object) -> None:
        act()

    hook = project.model.hf.register_forward_pre_hook(hooked)
    try:
        yield
    finally:
        hook.remove()


def leases(project: Project) -> int:
    return project.runtime.pool.state().leases


def test_cancelled_at_any_time_a_request_ends_and_frees_all_it_held(project: Project) -> None:
    draw = random.Random(4)
    with scheduling(project, max_sequences=3) as (scheduler, submit):
        for _ in range(25):
            running = [submit("Why? " * draw.randint(1, 80)) for _ in range(draw.randint(1, 5))]
            time.sleep(draw.random() * 0.03)
            for ticket, _ in running:
                scheduler.cancel(ticket)
                scheduler.cancel(ticket)
            assert {inbox.reason for _, inbox in running} <= {"cancelled", "length"}
            assert leases(project) == 0
            for ticket, inbox in running:
                assert len([i for i in inbox.items if isinstance(i, Delta) and i.finish_reason]) == 1
                assert ticket.running is None or ticket.running.kv.nbytes == 0
        assert (scheduler.load().waiting, scheduler.load().running) == (0, 0)


def test_cancelling_what_has_ended_does_nothing(project: Project) -> None:
    with scheduling(project) as (scheduler, submit):
        ticket, inbox = submit(sampling=Sampling(max_tokens=1))
        assert inbox.reason in {"length", "stop"}
        scheduler.cancel(ticket)
        submit(sampling=Sampling(max_tokens=1))[1].end  # noqa: B018 - waits
        assert len(inbox.items) == 1


def test_a_failing_step_ends_its_requests_by_name_and_the_next_ones_are_answered(project: Project) -> None:
    broken = threading.Event()

    def fail() -> None:
        if broken.is_set():
            raise RuntimeError("out of memory")

    with before_each_pass(project, fail), scheduling(project) as (_, submit):
        expected = submit()[1]
        assert expected.reason == "length"
        running = [submit()[1] for _ in range(3)]
        broken.set()
        assert {inbox.reason for inbox in running} <= {"engine_error", "length"}
        assert isinstance(running[-1].end, EngineError)
        assert "out of memory" in str(running[-1].end)
        assert leases(project) == 0
        broken.clear()
        after = submit()[1]
        assert after.reason == "length"
        assert after.token_ids == expected.token_ids


def test_a_request_whose_logits_are_no_numbers_ends_alone(project: Project) -> None:
    spoil = threading.Event()

    def poison(_module: object, _inputs: object, output: Any) -> Any:
        if spoil.is_set():
            output.logits[0, 0] = float("nan")  # of the first request in the pass
            spoil.clear()
        return output

    hook = project.model.hf.register_forward_hook(poison)
    try:
        with scheduling(project) as (_, submit):
            alone = submit()[1]
            assert alone.reason == "length"
            inboxes = [submit()[1] for _ in range(3)]
            while not all(inbox.items for inbox in inboxes):
                time.sleep(0.001)
            spoil.set()
            ends = [inbox.reason for inbox in inboxes]
            assert sorted(str(end) for end in ends) == ["engine_error", "length", "length"]
            for inbox in inboxes:
                if inbox.reason == "length":
                    assert inbox.token_ids == alone.token_ids
            assert leases(project) == 0
    finally:
        hook.remove()


def test_a_sink_that_raises_ends_its_own_request(project: Project) -> None:
    told = threading.Event()

    def gone(_item: Delta | QuireError) -> None:
        told.set()
        raise RuntimeError("the event loop is closed")

    with scheduling(project) as (scheduler, submit):
        _, other = submit()
        submit(sink=gone)
        assert told.wait(60)
        assert other.reason == "length"
        while scheduler.load().running:
            time.sleep(0.001)
        assert leases(project) == 0


def test_a_full_queue_says_busy_and_gives_the_lease_back(project: Project) -> None:
    gate = threading.Event()
    with (
        before_each_pass(project, lambda: gate.wait(60)),
        scheduling(project, max_sequences=1, queue=2) as (scheduler, submit),
    ):
        first = submit()[1]
        while scheduler.load().running < 1:
            time.sleep(0.001)
        waiting = [submit()[1] for _ in range(2)]
        with pytest.raises(EngineBusy, match="2 requests are waiting"):
            submit()
        assert leases(project) == 3 * 2, "two modules for each of the three"
        gate.set()
        assert [inbox.reason for inbox in (first, *waiting)] == ["length"] * 3
    assert leases(project) == 0


def test_first_come_first_served(project: Project) -> None:
    order: list[int] = []

    class Numbered(Inbox):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def __call__(self, item: Delta | QuireError) -> None:
            super().__call__(item)
            if self.ended.is_set():
                order.append(self.number)

    with scheduling(project, max_sequences=1) as (_, submit):
        inboxes = [submit(sampling=Sampling(max_tokens=3, ignore_eos=True), sink=Numbered(n))[1] for n in range(6)]
        for inbox in inboxes:
            assert inbox.reason == "length"
    assert order == list(range(6))


def test_answers_go_on_while_a_long_question_is_read(project: Project) -> None:
    """A question of many tokens is read in steps of the budget; each step still brings the answers one token."""
    passes: list[int] = []
    hook = project.model.hf.register_forward_pre_hook(
        lambda _m, _a, kw: passes.append(kw["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        with scheduling(project) as (_, submit):
            answering = submit()[1]
            while len(answering.items) < 3:
                time.sleep(0.001)
            had = len(answering.items)
            long = submit("What is it? " * 60, Sampling(max_tokens=1))[1]
            assert long.reason in {"length", "stop"}
            assert len(answering.items) - had >= 3
            assert max(passes) <= 64
    finally:
        hook.remove()


@pytest.mark.parametrize("drain", [0.0, 60.0])
def test_stopping_drains_or_cancels(project: Project, drain: float) -> None:
    with scheduling(project, max_sequences=2) as (scheduler, submit):
        inboxes = [submit(sampling=Sampling(max_tokens=100, ignore_eos=True))[1] for _ in range(5)]
        scheduler.stop(drain)
        reasons = [inbox.reason for inbox in inboxes]
        assert reasons == ["length"] * 5 if drain else set(reasons) <= {"cancelled", "length"}
        with pytest.raises(EngineStopped):
            submit()
        scheduler.stop()
        assert leases(project) == 0


def test_a_drain_that_takes_too_long_is_cut_short(project: Project) -> None:
    with before_each_pass(project, lambda: time.sleep(0.05)), scheduling(project) as (scheduler, submit):
        inbox = submit()[1]
        began = time.perf_counter()
        scheduler.stop(0.3)
        assert time.perf_counter() - began < 5
        assert inbox.reason == "cancelled"


def test_tickets_tell_how_far_they_are(project: Project) -> None:
    with scheduling(project) as (_, submit):
        ticket, inbox = submit(sampling=Sampling(max_tokens=7, ignore_eos=True))
        assert inbox.reason == "length"
        assert ticket.usage is not None
        assert ticket.usage.completion == 7
        assert ticket.first_token_seconds is not None
        assert ticket.first_token_seconds > 0


def test_many_threads_ask_and_cancel_at_random(project: Project) -> None:
    """A storm: every request ends exactly once, the surviving ones are right, nothing is left."""
    expected = project.ask("Why?", module="prices", max_tokens=20, ignore_eos=True)
    expected.text()
    wrong: list[Any] = []

    def storm(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(6):
            answer: Answer = project.ask("Why?", module="prices", max_tokens=20, ignore_eos=True)
            if draw.random() < 0.5:
                time.sleep(draw.random() * 0.01)
                answer.cancel()
            answer.text()
            if answer.token_ids != expected.token_ids[: len(answer.token_ids)] or (
                answer.finish_reason == "length" and answer.token_ids != expected.token_ids
            ):
                wrong.append(answer.token_ids)

    threads = [threading.Thread(target=storm, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert leases(project) == 0
