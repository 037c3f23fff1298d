"""Nobody stalls the others, nothing overflows, and whoever gives way goes on as if nothing had happened."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire import Project
from quire.access import Principal, Role
from quire.core import Delta, Sampling
from quire.errors import ContextExceeded
from quire.model.kv import GRAIN
from quire.scheduler import pace
from quire.scheduler.fairness import EVEN, share, soonest

from .driving import Passes, leases, own_tokens, scheduling


@settings(max_examples=300, deadline=None)
@given(pending=st.lists(st.integers(1, 400), max_size=40), budget=st.integers(0, 600))
def test_shares_are_fair_and_answers_come_first(pending: list[int], budget: int) -> None:
    shares = share(budget, pending)
    assert sum(shares) == min(budget, sum(pending)), "nothing of the budget is left while somebody wants it"
    assert all(0 <= given <= wanted for given, wanted in zip(shares, pending, strict=True))
    short = [given for given, wanted in zip(shares, pending, strict=True) if given < wanted]
    if short:
        assert max(shares) <= min(short) + 1, "nobody has more than one who wants more, but for a single token"
    if len(pending) <= budget:
        assert all(shares), "everybody moves, and an answer by all it wants"


@settings(max_examples=300, deadline=None)
@given(pending=st.lists(st.integers(0, 60), min_size=1, max_size=12), budget=st.integers(EVEN, 100))
def test_who_is_done_soonest_is_read_first_and_everybody_moves_on(pending: list[int], budget: int) -> None:
    def ends(rule: Callable[[int, list[int]], list[int]]) -> list[int]:
        """The step at which each is done."""
        left, ended, steps = list(pending), [0] * len(pending), 0
        while any(left):
            steps += 1
            shares = rule(budget, left)
            assert sum(shares) == min(budget, sum(left)), "nothing of the budget is left while somebody wants it"
            left = [before - got for before, got in zip(left, shares, strict=True)]
            assert min(left) >= 0
            ended = [end or steps * (not rest) for end, rest in zip(ended, left, strict=True)]
        return ended

    assert sum(ends(soonest)) <= sum(ends(share)), "and the mean waits less"
    once, alike = soonest(budget, pending), share(budget // EVEN, pending)
    assert all(got >= least for got, least in zip(once, alike, strict=True))


@pytest.mark.parametrize("step_tokens", [16, 40, 64])
def test_an_answer_goes_on_in_every_pass_and_no_pass_is_larger_than_its_budget(
    project: Project, passes: Passes, step_tokens: int
) -> None:
    """The bound of a stall: between two tokens of an answer lies one pass over at most `step_tokens` tokens."""
    draw = random.Random(5)
    answering = Sampling(max_tokens=150, ignore_eos=True)
    with scheduling(project, step_tokens=step_tokens) as (_, submit):
        assert submit(sampling=Sampling(max_tokens=1))[1].reason, "what all begin with is known"
        passes.rows.clear()
        tickets = []
        for number in range(24):
            text = f"{number}: " + "What is it? " * draw.randint(1, 60 if number % 3 else 2)
            tickets.append(submit(text, replace(answering, max_tokens=draw.randint(1, 150))))
            time.sleep(draw.random() * 0.01)
        assert {inbox.reason for _, inbox in tickets} == {"length"}
    assert max(sum(tokens.values()) for tokens in passes.rows) <= step_tokens
    for ticket, inbox in tickets:
        key = id(ticket.run.kv)
        took = [tokens.get(key) for tokens in passes.rows]
        first = next(i for i, count in enumerate(took) if count)
        last = max(i for i, count in enumerate(took) if count)
        answer = len(inbox.token_ids) - 1  # the last one is not computed
        assert took[last + 1 - answer : last + 1] == [1] * answer, "from its first token to its last it is in every one"
        assert None not in took[first : last + 1] or own_tokens(ticket) > pace.LONG, "and so is a short question"
        assert sum(count or 0 for count in took) == own_tokens(ticket) + answer


def test_an_answer_goes_on_while_a_long_question_is_read(project: Project, passes: Passes) -> None:
    step_tokens = 128
    with scheduling(project, step_tokens=step_tokens) as (scheduler, submit):
        alone, inbox = submit("What is it? " * 100, Sampling(max_tokens=1))
        assert inbox.reason == "length"
        pieces = [tokens[id(alone.run.kv)] for tokens in passes.rows if id(alone.run.kv) in tokens]
        assert pieces[:3] == [32, 64, 128], "alone it is soon read as fast as can be"
        answering, answer = submit(sampling=Sampling(max_tokens=1500, ignore_eos=True))
        until = time.monotonic() + 60
        while len(answer.token_ids) < 2 and time.monotonic() < until:
            time.sleep(0.001)
        beside, inbox = submit("What is that? " * 100, Sampling(max_tokens=1))
        assert inbox.reason == "length"
        keys = [set(tokens) for tokens in passes.rows]
        first, *_, last = (i for i, row in enumerate(keys) if id(beside.run.kv) in row)
        assert all(id(answering.run.kv) in row for row in keys[first : last + 1])
        scheduler.cancel(answering)


def test_more_requests_than_tokens_in_a_step_take_turns(project: Project, passes: Passes) -> None:
    with scheduling(project, max_sequences=64, step_tokens=16) as (_, submit):
        inboxes = [submit(f"{n} Why? " * 4, Sampling(max_tokens=20, ignore_eos=True))[1] for n in range(40)]
        assert {inbox.reason for inbox in inboxes} == {"length"}
    assert max(len(tokens) for tokens in passes.rows) == 16
    assert max(sum(tokens.values()) for tokens in passes.rows) <= 16


def test_who_does_not_fit_waits_and_nothing_is_taken_beyond_the_room(project: Project, passes: Passes) -> None:
    seen: list[tuple[int, int]] = []
    with scheduling(project, suffix_tokens=6 * GRAIN) as (scheduler, submit):
        passes.before = lambda: seen.append((scheduler.load().room_used, scheduler.load().running))
        inboxes = [submit("Why? " * 20, Sampling(max_tokens=8, ignore_eos=True))[1] for _ in range(12)]
        assert {inbox.reason for inbox in inboxes} == {"length"}
        load = scheduler.load()
        assert (load.room_used, load.room_total, load.preemptions) == (0, 6 * GRAIN, 0)
    assert max(used for used, _ in seen) <= 6 * GRAIN
    assert max(running for _, running in seen) == 3, "each has a question of two grains"


@pytest.mark.parametrize("max_tokens", [1, 20])
def test_equal_questions_are_read_once(project: Project, passes: Passes, max_tokens: int) -> None:
    text = "What is it? " * 40
    sampling = Sampling(max_tokens=max_tokens, ignore_eos=True)
    with scheduling(project) as (_, submit):
        alone = submit(text, sampling)[1]
        assert alone.reason == "length"
        with passes.held():
            blocking = submit("First!", Sampling(max_tokens=1))[1]
            tickets = [submit(text, sampling) for _ in range(4)]
            drawn = submit(text, replace(sampling, temperature=1.5, seed=1))[1]
            passes.rows.clear()
        assert blocking.reason
        assert {inbox.reason for _, inbox in tickets} == {drawn.reason} == {"length"}
    took = [sum(tokens.get(id(t.run.kv), 0) for tokens in passes.rows) for t, _ in tickets]
    assert took == [own_tokens(tickets[0][0]) + max_tokens - 1] + [max_tokens] * 3
    assert [inbox.token_ids for _, inbox in tickets] == [alone.token_ids] * 4
    assert leases(project) == 0


def test_nobody_learns_by_the_time_it_takes_what_others_ask(project: Project, passes: Passes) -> None:
    """Equal questions of others, in the same tenant or not, are read once more, for each of them."""
    text = "What is it? " * 40
    readers: frozenset[Role] = frozenset({"reader"})
    askers = [Principal("acme", "ann"), Principal("acme", "bob"), Principal("globex", "ann"), Principal("acme")]
    askers = [replace(asker, roles=readers) for asker in askers] + [replace(askers[3], roles=readers, key_id="k2")]
    with scheduling(project) as (_, submit):
        assert submit(sampling=Sampling(max_tokens=1))[1].reason, "what all begin with is known"
        with passes.held():
            blocking = submit("First!", Sampling(max_tokens=1))[1]
            tickets = [submit(text, Sampling(max_tokens=2, ignore_eos=True), principal=asker) for asker in askers]
            again = submit(text, Sampling(max_tokens=2, ignore_eos=True), principal=replace(askers[0], key_id="k9"))
            passes.rows.clear()
        assert blocking.reason
        assert {inbox.reason for _, inbox in [*tickets, again]} == {"length"}
    took = [sum(tokens.get(id(t.run.kv), 0) for tokens in passes.rows) for t, _ in [*tickets, again]]
    assert took == [own_tokens(again[0]) + 1] * len(askers) + [2], "the same user with another key shares with herself"


def test_who_waits_for_an_equal_question_reads_it_when_nobody_else_does(project: Project, passes: Passes) -> None:
    """Whoever reads may leave at any time; the others take over."""
    draw = random.Random(9)
    text = "What is it? " * 40
    sampling = Sampling(max_tokens=5, ignore_eos=True)
    with scheduling(project, step_tokens=16) as (scheduler, submit):
        alone = submit(text, sampling)[1]
        assert alone.reason == "length"
        for _ in range(10):
            tickets = [submit(text, sampling) for _ in range(5)]
            for ticket, _ in tickets[:4]:
                time.sleep(draw.random() * 0.02)
                scheduler.cancel(ticket)
            assert {inbox.reason for _, inbox in tickets} <= {"length", "cancelled"}
            assert tickets[4][1].reason == "length"
            assert tickets[4][1].token_ids == alone.token_ids
        assert scheduler.load().room_used == 0


SAMPLINGS = [
    Sampling(max_tokens=170, ignore_eos=True),
    Sampling(max_tokens=170, ignore_eos=True, temperature=1.1, top_p=0.9, seed=3),
    Sampling(max_tokens=170, ignore_eos=True, repetition_penalty=1.2, frequency_penalty=0.3, logprobs=2),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "drawn", "penalized"])
@pytest.mark.parametrize("session", [False, True])
def test_an_answer_that_gave_way_is_the_one_it_would_have_been(
    project: Project, sampling: Sampling, session: bool
) -> None:
    """Room for less than two of five: they push each other out, and say what each says alone."""
    questions = [f"Why {number}? {'And when? ' * number}" for number in range(5)]
    with scheduling(project) as (_, submit):
        alone = []
        for question in questions:
            alone.append(submit(question, sampling)[1])
            assert alone[-1].reason == "length"
    with scheduling(project, suffix_tokens=5 * GRAIN) as (scheduler, submit):
        together = [submit(q, sampling, session=f"s{i}" if session else None) for i, q in enumerate(questions)]
        assert {inbox.reason for _, inbox in together} == {"length"}
        load = scheduler.load()
        assert load.preemptions > 0
        assert load.room_used <= 5 * GRAIN if session else load.room_used == 0
    for (ticket, inbox), expected in zip(together, alone, strict=True):
        assert inbox.token_ids == expected.token_ids
        assert inbox.text == expected.text
        assert [d.text for d in inbox.items if isinstance(d, Delta)] == [
            d.text for d in expected.items if isinstance(d, Delta)
        ]
        assert ticket.usage is not None
        assert ticket.usage.completion == 170
    assert leases(project) == 0


def test_idle_sessions_make_room_before_anybody_gives_way(project: Project) -> None:
    short = Sampling(max_tokens=4, ignore_eos=True)
    with scheduling(project, suffix_tokens=6 * GRAIN) as (scheduler, submit):
        for number in range(5):
            assert submit(f"Why {number}?", short, session=f"s{number}")[1].reason == "length"
        assert scheduler.load().room_used == 5 * GRAIN, "a session keeps no more than it needs"
        assert submit(sampling=Sampling(max_tokens=5 * GRAIN, ignore_eos=True))[1].reason == "length"
        assert scheduler.load().preemptions == 0
        assert scheduler.load().room_used < 5 * GRAIN


def test_sessions_that_wait_hold_nothing_that_others_need(project: Project) -> None:
    """Everybody has a session, and together they are far larger than the room: nobody waits for ever."""
    draw = random.Random(7)
    with scheduling(project, suffix_tokens=5 * GRAIN) as (scheduler, submit):
        for _ in range(6):
            inboxes = []
            for _ in range(8):
                text = "Why? " * draw.randint(1, 40)
                sampling = Sampling(max_tokens=draw.randint(1, 80), ignore_eos=True)
                inboxes.append(submit(text, sampling, session=draw.choice("abcdef"))[1])
            assert {inbox.reason for inbox in inboxes} == {"length"}
            assert scheduler.load().room_used <= 5 * GRAIN
    assert leases(project) == 0


def test_what_can_never_fit_is_refused_and_what_just_fits_is_answered(project: Project) -> None:
    with scheduling(project, suffix_tokens=2 * GRAIN) as (_, submit):
        ticket, inbox = submit(sampling=Sampling(max_tokens=1))
        assert inbox.reason
        room = 2 * GRAIN - len(ticket.run.request.suffix_ids) + 1
        fits = submit(sampling=Sampling(max_tokens=room, ignore_eos=True))[1]
        assert fits.reason == "length"
        assert len(fits.token_ids) == room
        unbounded = submit(sampling=Sampling(ignore_eos=True))[1]
        assert unbounded.reason == "length"
        assert unbounded.token_ids == fits.token_ids, "without a wish an answer gets the room that there is"
        with pytest.raises(ContextExceeded, match="room for 128 tokens") as refused:
            submit(sampling=Sampling(max_tokens=room + 1))
        assert "engine.suffix_tokens" in refused.value.hint
        with pytest.raises(ContextExceeded):
            submit("Why? " * 100)
    assert leases(project) == 0
