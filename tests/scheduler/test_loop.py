"""Whatever happens to one request, the others go on, and nothing stays leased."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest
import torch

from quire import Answer, Project
from quire.access import LOCAL
from quire.core import Delta, Sampling
from quire.engine import LocalEngine
from quire.errors import ContextExceeded, EngineBusy, EngineError, EngineStopped, InvalidRequest, QuireError
from quire.scheduler.telling import AHEAD

from .driving import Inbox, Passes, leases, scheduling


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
                assert ticket.run.kv.nbytes == 0
        load = scheduler.load()
        assert (load.waiting, load.running, load.room_used) == (0, 0, 0)


def test_cancelling_what_has_ended_does_nothing(project: Project) -> None:
    with scheduling(project) as (scheduler, submit):
        ticket, inbox = submit(sampling=Sampling(max_tokens=1))
        assert inbox.reason in {"length", "stop"}
        scheduler.cancel(ticket)
        submit(sampling=Sampling(max_tokens=1))[1].end  # noqa: B018 - waits
        assert len(inbox.items) == 1


def test_who_was_cancelled_is_told_where_the_turn_then_fails(
    project: Project, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise RuntimeError("no memory")

    with scheduling(project) as (scheduler, submit):
        with passes.held():
            (_, running), (cancelled, other) = submit(), submit("What?")
            scheduler.cancel(cancelled)
            monkeypatch.setattr(LocalEngine, "grow", fail)
        assert other.reason == "cancelled"
        assert isinstance(running.end, EngineError)


def test_cancelling_frees_everything_before_the_next_pass(project: Project, passes: Passes) -> None:
    """Not only once the caller hears of it."""
    gate, held, seen = threading.Event(), threading.Event(), []

    def hold() -> None:
        held.set()
        gate.wait(60)

    with scheduling(project) as (scheduler, submit):
        (cancelled, inbox), (_, other) = submit(), submit()
        while not other.items:
            time.sleep(0.001)
        passes.before = hold
        assert held.wait(60)
        taken = scheduler.load().room_used
        passes.before = lambda: seen.append(scheduler.load())
        scheduler.cancel(cancelled)
        gate.set()
        assert inbox.reason == "cancelled"
        assert other.reason == "length"
    assert (seen[0].running, seen[0].room_used) == (1, taken // 2)


def test_a_failing_step_ends_its_requests_by_name_and_the_next_ones_are_answered(
    project: Project, passes: Passes
) -> None:
    broken = threading.Event()

    def fail() -> None:
        if broken.is_set():
            raise RuntimeError("out of memory")

    passes.before = fail
    with scheduling(project) as (scheduler, submit):
        expected = submit()[1]
        assert expected.reason == "length"
        running = [submit()[1] for _ in range(3)]
        broken.set()
        assert {inbox.reason for inbox in running} <= {"engine_error", "length"}
        assert isinstance(running[-1].end, EngineError)
        assert "out of memory" in str(running[-1].end)
        assert leases(project) == 0
        assert scheduler.load().room_used == 0
        broken.clear()
        after = submit()[1]
        assert after.reason == "length"
        assert after.token_ids == expected.token_ids


def test_a_request_whose_logits_are_no_numbers_ends_alone(project: Project, passes: Passes) -> None:
    spoil = threading.Event()

    def poison(logits: torch.Tensor) -> torch.Tensor:
        if not spoil.is_set():
            return logits
        spoil.clear()
        spoiled = logits.clone()
        spoiled[0] = float("nan")
        return spoiled

    passes.after = poison
    with scheduling(project) as (_, submit):
        alone = submit()[1]
        assert alone.reason == "length"
        inboxes = [submit()[1] for _ in range(3)]
        while not all(inbox.items for inbox in inboxes):
            time.sleep(0.001)
        spoil.set()
        assert [inbox.reason for inbox in inboxes] == ["engine_error", "length", "length"]
        assert [inbox.token_ids for inbox in inboxes[1:]] == [alone.token_ids] * 2
        assert leases(project) == 0


def test_a_text_that_cannot_be_made_ends_its_own_request(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that goes wrong with one request's words may end the thread that tells them all."""
    tokenizer, other = project.model.tokenizer, threading.Event()
    decode = tokenizer.decode

    def sometimes(token_ids: Any) -> str:
        if not other.is_set():
            raise ValueError("no such token")
        return decode(token_ids)

    with scheduling(project) as (_, submit):
        monkeypatch.setattr(tokenizer, "decode", sometimes)
        broken = submit()[1]
        assert isinstance(broken.end, EngineError)
        assert "no such token" in str(broken.end)
        assert leases(project) == 0
        other.set()
        assert submit()[1].reason == "length"


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


def test_a_full_queue_says_busy_and_gives_the_lease_back(project: Project, passes: Passes) -> None:
    with scheduling(project, max_sequences=1, queue=2) as (scheduler, submit):
        with passes.held():
            first = submit()[1]
            while scheduler.load().running < 1:
                time.sleep(0.001)
            waiting = [submit()[1] for _ in range(2)]
            with pytest.raises(EngineBusy, match="2 requests are waiting"):
                submit()
            with pytest.raises(EngineBusy):
                scheduler.check_queue(LOCAL.tenant, 1)
            assert leases(project) == 3 * 2, "two modules for each of the three"
        assert [inbox.reason for inbox in (first, *waiting)] == ["length"] * 3
    assert leases(project) == 0


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [(Sampling(temperature=-1.0), InvalidRequest), (Sampling(max_tokens=5000), ContextExceeded)],
)
def test_what_cannot_run_is_refused_where_it_is_submitted(
    project: Project, sampling: Sampling, reason: type[QuireError]
) -> None:
    with scheduling(project) as (scheduler, submit):
        with pytest.raises(reason):
            submit(sampling=sampling)
        assert scheduler.load().waiting == 0
    assert leases(project) == 0


def test_a_stop_string_ends_the_request_within_two_tokens(project: Project, passes: Passes) -> None:
    with scheduling(project) as (_, submit):
        whole = submit()[1]
        assert whole.reason == "length"
        stop = whole.text[40:44]
        passes.rows.clear()
        ticket, inbox = submit(sampling=Sampling(max_tokens=400, ignore_eos=True, stop=(stop,)))
        assert inbox.reason == "stop"
        assert inbox.text == whole.text[: whole.text.find(stop)]
        assert ticket.usage is not None
        assert ticket.usage.completion == len(inbox.token_ids) < 400
        assert inbox.token_ids == whole.token_ids[: len(inbox.token_ids)]
        assert len(passes.rows) - len(inbox.token_ids) <= AHEAD + 1
        assert [i.finish_reason for i in inbox.items if isinstance(i, Delta) and i.finish_reason] == ["stop"]


def test_a_slow_caller_holds_back_the_engine_and_nobody_is_forgotten(project: Project, passes: Passes) -> None:
    """Back-pressure: what was computed is never more than two steps ahead of what was told."""
    ahead: list[int] = []

    class Slow(Inbox):
        def __call__(self, item: Delta | QuireError) -> None:
            time.sleep(0.01)
            super().__call__(item)
            ahead.append(len(passes.rows) - len(self.items))

    with scheduling(project) as (_, submit):
        slow = submit(sampling=Sampling(max_tokens=30, ignore_eos=True), sink=Slow())[1]
        assert slow.reason == "length"
        assert len(slow.token_ids) == 30
    assert max(ahead) <= AHEAD + 1


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


def test_a_drain_that_takes_too_long_is_cut_short(project: Project, passes: Passes) -> None:
    passes.before = lambda: time.sleep(0.05)
    with scheduling(project) as (scheduler, submit):
        inbox = submit()[1]
        scheduler.stop(0.3)
        assert inbox.reason == "cancelled"
    assert len(passes.rows) < 200, "of 400 that it wanted"


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
