"""A session computes only what is new, and says exactly what a fresh request would say."""

from __future__ import annotations

import random
from typing import Any

import pytest

from quire import Answer, Project, Turn
from quire.access import LOCAL
from quire.answering import Question
from quire.core import Sampling

OPTIONS: dict[str, Any] = {"module": "prices", "max_tokens": 10, "ignore_eos": True}


def say(project: Project, turns: list[Turn], **options: Any) -> tuple[str, Answer]:
    answer = project.chat(turns, **(OPTIONS | options))
    return answer.text(), answer


def converse(project: Project, questions: list[str], session: str | None) -> list[tuple[list[Turn], str, Answer]]:
    turns: list[Turn] = []
    done = []
    for question in questions:
        turns = [*turns, Turn("user", question)]
        text, answer = say(project, turns, session=session)
        done.append((turns, text, answer))
        turns = [*turns, Turn("assistant", text)]
    return done


def test_later_turns_compute_only_what_is_new(open_shop: Project) -> None:
    chain = sum(open_shop.registry.live(m).token_count for m in ("company", "prices"))
    before = 0
    for number, (_, _, answer) in enumerate(converse(open_shop, ["one?", "two?", "three?"], "conversation")):
        computed = answer.usage.prompt - answer.usage.cached
        if number:
            assert answer.usage.cached == before - 1, "all but the last chosen token, which nobody had to compute"
            assert computed < 25
        else:
            assert answer.usage.cached == chain
        before = answer.usage.prompt + answer.usage.completion


def test_later_turns_say_what_a_fresh_request_says(open_shop: Project) -> None:
    """The fresh request gets the same token ids, of which earlier answers are those that were generated."""
    answerer = open_shop.runtime.answerer
    sampling = Sampling(max_tokens=10, ignore_eos=True)
    for turns, _, answer in converse(open_shop, ["one?", "two?", "three?", "four?"], "compared"):
        fresh = answerer.prepare(Question(tuple(turns), module="prices", sampling=sampling), LOCAL)
        fresh.suffix_ids = answer.prepared.suffix_ids
        alone = Answer(answerer, fresh)
        alone.text()
        assert alone.token_ids == answer.token_ids
        assert alone.usage.cached == fresh.restored.tokens


def test_random_conversations_with_and_without_a_session_agree(open_shop: Project) -> None:
    """Turns that go back, branch off, repeat and change: the session is never wrong, only sometimes useless."""
    draw = random.Random(3)
    turns: list[Turn] = []
    for step in range(12):
        if turns and draw.random() < 0.4:
            turns = turns[: 2 * draw.randrange(len(turns) // 2 + 1)]
        turns = [*turns, Turn("user", draw.choice(["a?", "b?", "what of it?"]))]
        module = draw.choice(["prices", "prices", "shipping"])
        text, with_session = say(open_shop, turns, session="random", module=module)
        _, without = say(open_shop, turns, module=module)
        if with_session.prepared.suffix_ids == without.prepared.suffix_ids:
            assert with_session.token_ids == without.token_ids, f"step {step}"
        turns = [*turns, Turn("assistant", text)]


def test_a_session_that_is_cancelled_or_refused_goes_on(open_shop: Project) -> None:
    turns = [Turn("user", "Tell me everything.")]
    expected, _ = say(open_shop, turns)
    answer = open_shop.chat(turns, **(OPTIONS | {"session": "stopped", "max_tokens": 500}))
    next(answer)
    answer.cancel()
    assert list(answer)[-1].finish_reason == "cancelled"
    assert say(open_shop, turns, session="stopped")[0] == expected
    with pytest.raises(Exception, match="leaves"):
        say(open_shop, turns, session="stopped", max_tokens=5000)
    again, answer = say(open_shop, turns, session="stopped")
    assert again == expected
    assert answer.usage.cached == answer.usage.prompt - 1


def test_a_rebuilt_module_starts_the_session_anew(open_shop: Project) -> None:
    turns = [Turn("user", "one?")]
    say(open_shop, turns, session="moved")
    expected = say(open_shop, turns, module="shipping")[0]
    text, answer = say(open_shop, turns, session="moved", module="shipping")
    assert text == expected
    assert answer.usage.cached == answer.prepared.restored.tokens


def test_two_requests_of_one_session_at_once(open_shop: Project) -> None:
    turns = [Turn("user", "one?")]
    expected = say(open_shop, turns, max_tokens=40)[0]
    say(open_shop, turns, session="twice")
    together = [open_shop.chat(turns, **(OPTIONS | {"session": "twice", "max_tokens": 40})) for _ in range(4)]
    assert [answer.text() for answer in together] == [expected] * 4
