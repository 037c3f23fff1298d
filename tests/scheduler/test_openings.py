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
from quire.engine.opening import Openings
from quire.model.kv import GRAIN

from .driving import Inbox, Passes, scheduling
from .test_determinism import logprobs

ASKED = ["Why?", "What does a bolt cost?", "日本 parcel", "Why?"]
GREEDY = Sampling(max_tokens=12, ignore_eos=True, logprobs=2)
SENTENCE = "You answer in one sentence."


def words(project: Project) -> int:
    """Tokens of the opening."""
    (segment, *_) = project.plan()[0].layout.suffix_segments(project.model.tokenizer, [Turn("user", "Why?")], {})
    return len(segment)


@contextmanager
def request(project: Project, *turns: Turn, prompt: str | None = None, module: str = "prices") -> Iterator[Request]:
    question = Question(turns, prompt=prompt, module=module, sampling=GREEDY)
    made = project.runtime.answerer.prepare(question, LOCAL).request()
    yield made
    made.lease.release()


def asked(project: Project, passes: Passes, texts: list[str], session: str | None = None) -> list[tuple[int, Inbox]]:
    """Tokens computed for each of `texts`, one after another on one engine, and what was answered."""
    found = []
    with scheduling(project) as (_, submit):
        for text in texts:
            passes.rows.clear()
            _, inbox = submit(text, GREEDY, session=session)
            assert inbox.reason == "length"
            found.append((sum(sum(rows.values()) for rows in passes.rows), inbox))
    return found


def test_it_is_computed_for_the_first_question_alone(project: Project, passes: Passes) -> None:
    together = asked(project, passes, ASKED)
    alone = [asked(project, passes, [text])[0] for text in ASKED]
    saved = [before - now for (before, _), (now, _) in zip(alone, together, strict=True)]
    assert saved == [0] + [words(project)] * 3
    assert saved[-1] > 0
    for (_, ours), (_, expected) in zip(together, alone, strict=True):
        assert ours.token_ids == expected.token_ids
        assert logprobs(ours) == logprobs(expected), "to the last bit"


def test_a_conversation_begins_with_it_and_goes_on_from_its_own(project: Project, passes: Passes) -> None:
    (_, first), (_, again) = asked(project, passes, ["What does a nut cost?", "Why?"], session="talk")
    (plain,), (alone,) = asked(project, passes, ["What does a nut cost?"]), asked(project, passes, ["Why?"])
    assert logprobs(first) == logprobs(plain[1])
    assert logprobs(again) == logprobs(alone[1])


def test_equal_questions_are_still_read_once(project: Project, passes: Passes) -> None:
    with scheduling(project) as (_, submit):
        assert submit("What?", GREEDY)[1].reason
        passes.rows.clear()
        for inbox in [submit("What does a bolt cost?", GREEDY)[1] for _ in range(6)]:
            assert inbox.reason
        longest = sorted((tokens for rows in passes.rows for tokens in rows.values()), reverse=True)
    assert longest[0] > 1
    assert longest[1] < longest[0], "whoever came while it was read copied it"


def test_who_was_sent_back_begins_with_it_again(project: Project, passes: Passes) -> None:
    long = replace(GREEDY, max_tokens=130)
    texts = [f"What does bolt number {i} cost?" for i in range(4)]
    with scheduling(project, suffix_tokens=5 * GRAIN) as (scheduler, submit):
        inboxes = [submit(text, long)[1] for text in texts]
        assert all(inbox.reason == "length" for inbox in inboxes)
        assert scheduler.load().preemptions > 0
    for text, inbox in zip(texts, inboxes, strict=True):
        with scheduling(project) as (_, submit):
            _, alone = submit(text, long)
            assert alone.reason == "length"
        assert logprobs(inbox) == logprobs(alone)


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
