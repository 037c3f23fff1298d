"""What every conversation behind a module begins with is computed once, and answers are what they were."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from quire import Project, Turn, open_project
from quire.access import LOCAL
from quire.answering import Question
from quire.core import Sampling
from quire.engine import Request
from quire.engine.opening import Opening, Openings
from quire.model import GrowingKV
from quire.model.kv import GRAIN

from .driving import Inbox, Passes, own_tokens, scheduling
from .test_determinism import same_logprobs

ASKED = ["Why?", "What does a bolt cost?", "日本 parcel", "Why?"]
GREEDY = Sampling(max_tokens=12, ignore_eos=True, logprobs=2)
SENTENCE = "You answer in one sentence."


def words(project: Project) -> int:
    """Tokens of the opening."""
    (segment, *_) = project.plan()[0].layout.suffix_segments(project.model.tokenizer, [Turn("user", "Why?")], {})
    return len(segment)


@contextmanager
def request(
    project: Project, *turns: Turn, prompt: str | None = None, module: str = "prices", release: bool = True
) -> Iterator[Request]:
    question = Question(turns, prompt=prompt, module=module, sampling=GREEDY)
    made = project.runtime.answerer.prepare(question, LOCAL).request()
    yield made
    if release:
        made.lease.release()


def asked(
    project: Project, passes: Passes, texts: list[str], session: str | None = None, step_tokens: int = 64
) -> list[tuple[int, Inbox]]:
    """Tokens computed for each of `texts`, one after another on one engine, and what was answered."""
    found = []
    with scheduling(project, step_tokens=step_tokens) as (_, submit):
        for text in texts:
            passes.rows.clear()
            _, inbox = submit(text, GREEDY, session=session)
            assert inbox.reason == "length"
            found.append((sum(sum(rows.values()) for rows in passes.rows), inbox))
    return found


@pytest.mark.parametrize("step_tokens", [64, 2], ids=["at once", "in pieces"])
def test_it_is_computed_for_the_first_question_alone(project: Project, passes: Passes, step_tokens: int) -> None:
    together = asked(project, passes, ASKED, step_tokens=step_tokens)
    alone = [asked(project, passes, [text])[0] for text in ASKED]
    saved = [before - now for (before, _), (now, _) in zip(alone, together, strict=True)]
    assert saved == [0] + [words(project)] * 3
    assert saved[-1] > 0
    for (_, ours), (_, expected) in zip(together, alone, strict=True):
        assert ours.token_ids == expected.token_ids
        assert same_logprobs(project, ours, expected)


def test_a_conversation_begins_with_it_and_goes_on_from_its_own(project: Project, passes: Passes) -> None:
    texts = ["Why?", "What does a nut cost?", "What does a nut cost, and why?"]
    talk = asked(project, passes, texts, session="talk")
    alone = [asked(project, passes, [text])[0] for text in texts]
    assert all(same_logprobs(project, ours, other) for (_, ours), (_, other) in zip(talk, alone, strict=True))
    saved = [before - now for (before, _), (now, _) in zip(alone, talk, strict=True)]
    assert words(project) <= saved[1] < saved[2], "what it has in common with the turn before"


def test_equal_questions_are_read_once(project: Project, passes: Passes) -> None:
    with scheduling(project) as (_, submit):
        assert submit("What?", GREEDY)[1].reason
        with passes.held():
            blocking = submit("First!", GREEDY)[1]
            tickets = [submit("What does a bolt cost?", GREEDY) for _ in range(6)]
        assert {inbox.reason for inbox in (blocking, *(inbox for _, inbox in tickets))} == {"length"}
    took = [sum(tokens.get(id(ticket.run.kv), 0) for tokens in passes.rows) for ticket, _ in tickets]
    assert took == [own_tokens(tickets[0][0]) + 11] + [12] * 5


def test_who_has_one_token_of_her_own_moves_in_every_step(project: Project, passes: Passes) -> None:
    """A copied question ends where the opening does, and is no longer a copy to wait for."""
    with scheduling(project) as (scheduler, _):
        told = [Inbox() for _ in range(4)]
        with passes.held():
            for inbox in told:
                with request(project, Turn("user", "Why?"), release=False) as made:
                    made.suffix_ids = made.suffix_ids[: words(project) + 1]
                scheduler.submit(made, inbox)
        assert {inbox.reason for inbox in told} == {"length"}
    assert len({tuple(inbox.token_ids) for inbox in told}) == 1
    assert len(passes.rows) <= 2 * 12 + 2, "side by side, and not one after another"


def test_who_was_sent_back_begins_with_it_again(
    project: Project, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(GREEDY, max_tokens=130)
    texts = [f"What does bolt number {i} cost?" for i in range(4)]
    given: list[int] = []
    give = Opening.give

    def counted(opening: Opening, kv: GrowingKV) -> None:
        give(opening, kv)
        given.append(kv.length)

    monkeypatch.setattr(Opening, "give", counted)
    with scheduling(project, suffix_tokens=5 * GRAIN) as (scheduler, submit):
        assert submit(texts[0], long)[1].reason == "length"
        inboxes = [submit(text, long)[1] for text in texts]
        assert all(inbox.reason == "length" for inbox in inboxes)
        assert scheduler.load().preemptions > 0
    assert given[0] == 0
    assert given[1:].count(words(project)) == len(given) - 1 > len(texts), "also to those who came again"
    for text, inbox in zip(texts, inboxes, strict=True):
        with scheduling(project) as (_, submit):
            _, alone = submit(text, long)
            assert alone.reason == "length"
        assert same_logprobs(project, inbox, alone)


def test_a_session_in_which_nothing_was_computed_is_not_kept(project: Project, passes: Passes) -> None:
    with scheduling(project) as (scheduler, submit):
        assert submit("Why?", GREEDY)[1].reason
        with passes.held():
            blocking = submit("What does a bolt cost?", GREEDY)[1]
            waiting = submit("What does a bolt cost?", GREEDY, session="talk")
            scheduler.cancel(waiting[0])
        assert (blocking.reason, waiting[1].reason) == ("length", "cancelled")
        assert scheduler.load().room_used == 0


def test_a_long_one_is_no_opening(project: Project) -> None:
    with request(project, Turn("user", "Why?")) as made:
        leaf = made.lease.leaf
        layout = {**leaf.inputs["layout"], "first_user": "Read all of this first. " * 30}
        made.lease.records = (*made.lease.records[:-1], replace(leaf, inputs={**leaf.inputs, "layout": layout}))
        made.suffix_ids = project.model.tokenizer.markers(layout["first_user"]) + made.suffix_ids
        assert Openings(project.model.tokenizer).of(made) is None


def test_every_module_has_its_own(project: Project) -> None:
    openings, asked = Openings(project.model.tokenizer), Turn("user", "Why?")
    with request(project, asked) as one, request(project, asked, module="company") as other:
        assert openings.of(one) is not openings.of(other)
    with request(project, Turn("user", "What?")) as another:
        assert openings.of(another) is openings.of(one)


@pytest.mark.parametrize(
    ("turns", "prompt"),
    [((Turn("system", SENTENCE), Turn("user", "Why?")), None), ((), "Why?")],
    ids=["system", "text"],
)
def test_what_begins_otherwise_has_none(project: Project, turns: tuple[Turn, ...], prompt: str | None) -> None:
    with request(project, *turns, prompt=prompt) as made:
        assert Openings(project.model.tokenizer).of(made) is None


def test_words_of_askers_are_never_taken_for_it(project: Project) -> None:
    """The layout may have nothing before the first question, and a text may be no more than what a layout has."""
    with request(project, Turn("user", "Why?")) as made:
        leaf = made.lease.leaf
        layout = {**leaf.inputs["layout"], "first_user": ""}
        made.lease.records = (*made.lease.records[:-1], replace(leaf, inputs={**leaf.inputs, "layout": layout}))
        assert Openings(project.model.tokenizer).of(made) is None
    with request(project, Turn("user", "Why?")) as made:
        made.suffix_ids = made.suffix_ids[: words(project)]
        assert Openings(project.model.tokenizer).of(made) is None


def test_it_goes_with_the_module(built_shop: Path) -> None:
    with open_project(built_shop) as project:
        openings = Openings(project.model.tokenizer)
        with request(project, Turn("user", "Why?")) as made:
            assert openings.of(made)
        assert len(openings._known) == 1
        del made
        project.runtime.pool.close()
        gc.collect()
        assert len(openings._known) == 0
