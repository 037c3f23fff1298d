"""An answer in a loop is found, and found at the same token however it was computed; tables and lists go on."""

from __future__ import annotations

import random

import pytest

from quire.engine.repetition import EVERY, LONGEST, TIMES, repeats

PROMPT = [1, 2, 3]
LEAST = 256


def end_of(answer: list[int], least: int = LEAST) -> int | None:
    """After how many tokens an answer would be ended."""
    token_ids = list(PROMPT)
    for token in answer:
        token_ids.append(token)
        if repeats(token_ids, len(PROMPT), least):
            return len(token_ids) - len(PROMPT)
    return None


@pytest.mark.parametrize("span", [1, 2, 3, 13, 31, 64, 65, 100, 333, LONGEST])
@pytest.mark.parametrize("before", [0, 7, 100])
def test_any_span_is_found_once_it_has_been_said_often_enough(span: int, before: int) -> None:
    draw = random.Random(span)
    prefix = [draw.randrange(1000, 2000) for _ in range(before)]
    loop = [draw.randrange(1000) for _ in range(span)]
    needed = before + max(LEAST, TIMES * span)
    ended = end_of(prefix + loop * (TIMES + 1 + (LEAST + 2 * EVERY) // span))
    assert ended is not None
    assert needed - span <= ended < needed + EVERY  # the prefix may end like the span


def test_a_span_with_repetitions_inside_is_found() -> None:
    row = [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6]
    assert end_of(row * 40) is not None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([0, 11] * 120, id="a hundred and twenty zeros with commas"),
        pytest.param([t for row in range(300) for t in (4, 5, 100 + row, 4, 6)], id="rows of a table that differ"),
        pytest.param(list(range(900)) * 3, id="a long text three times"),
        pytest.param([9] * 200 + list(range(50, 250)) + [9] * 200, id="two rules of a table"),
        pytest.param([t for n in range(200) for t in [7] * (n % 40) + [8, n]], id="lines that are indented"),
    ],
)
def test_what_is_no_loop_goes_on(answer: list[int]) -> None:
    assert end_of(answer) is None


def test_the_question_does_not_count() -> None:
    token_ids = [7] * 4096 + [7] * (LEAST - EVERY)
    assert not repeats(token_ids, 4096, LEAST)
    assert repeats(token_ids + [7] * EVERY, 4096, LEAST)


def test_random_spans_are_found_as_by_hand() -> None:
    """Against the definition, tried span by span."""
    draw = random.Random(3)
    for _ in range(300):
        alphabet = draw.choice([1, 2, 3, 50])
        head = [draw.randrange(alphabet) for _ in range(draw.randrange(0, 60))]
        loop = [draw.randrange(alphabet) for _ in range(draw.randrange(1, 30))]
        answer = (head + loop * 400)[: EVERY * draw.randrange(1, 12)]
        expected = any(
            (length := max(48, TIMES * span)) <= len(answer)
            and all(answer[-i] == answer[-i - span] for i in range(1, length - span + 1))
            for span in range(1, len(answer) // TIMES + 1)
        )
        assert repeats(PROMPT + answer, len(PROMPT), 48) == expected
