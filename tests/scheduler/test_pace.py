"""Long questions take a bounded part of the time, whatever a token of them costs, and are never forgotten."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.scheduler.pace import EVERY, LEAST, MOST, SHARE, Pace

Seconds = Callable[[int, int], float]  # of a step with so many tokens of long questions, behind so many read before


def driven(
    seconds: Seconds, steps: int = 600, ratio: float = 1.0, others: int = 4
) -> tuple[list[tuple[int, float]], float]:
    """(tokens of long questions, seconds) of each step, and what all steps would have taken without those tokens."""
    pace, read, took = Pace(), 0, []
    for _ in range(steps):
        tokens = pace.tokens(others, ratio)
        took.append((tokens, seconds(tokens, read)))
        pace.note(others, *took[-1])
        read += tokens
    return took, sum(seconds(0, 0) for _ in range(steps))


@settings(max_examples=200, deadline=None)
@given(usual=st.floats(1e-3, 0.5), token=st.floats(1e-5, 10.0), attended=st.floats(0, 1e-3))
def test_steps_take_half_as_long_again(usual: float, token: float, attended: float) -> None:
    """`token`: of the usual time; `attended`: of that, for each token read before."""
    took, alone = driven(lambda tokens, read: usual * (1 + tokens * token * (1 + attended * read)))
    last = max(seconds for _, seconds in took)  # the first piece is computed before anybody knows what it costs
    assert sum(seconds for _, seconds in took) <= (1 + SHARE) * alone + last
    assert last <= max(MOST * 2, LEAST * token * (1 + attended * 20_000) + 1) * usual


@pytest.mark.parametrize("token", [1e-4, 0.01, 0.1, 1, 10])
def test_nobody_waits_for_ever(token: float) -> None:
    """Not even where the smallest piece takes longer than what is saved up otherwise."""
    took, alone = driven(lambda tokens, _: 1 + tokens * token, steps=3000)
    beyond = sum(seconds for _, seconds in took) - alone
    assert beyond > 0.8 * SHARE * alone
    assert all(tokens == 0 or tokens >= LEAST for tokens, _ in took)


def test_where_long_questions_are_more_they_get_more() -> None:
    took, alone = driven(lambda tokens, _: 1 + tokens / 100, ratio=6.0)
    beyond = sum(seconds for _, seconds in took) - alone
    assert 0.8 * 6 * SHARE * alone < beyond <= 6 * SHARE * alone + MOST
    fewer, _ = driven(lambda tokens, _: 1 + tokens / 100, ratio=0.1)
    assert sum(seconds for _, seconds in fewer) - alone > 0.8 * SHARE * alone, "one beside ten is not starved"


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_halts_now_and_then_slows_nobody_down_for_long(seed: int) -> None:
    draw = random.Random(seed)
    halted = 0.0

    def seconds(tokens: int, _: int) -> float:
        nonlocal halted
        halt = 20.0 if draw.random() < 0.02 else draw.random() / 5
        halted += halt
        return 1 + tokens / 100 + halt

    took, _ = driven(seconds, steps=2000)
    own = sum(seconds for _, seconds in took) - halted
    assert own < 2 * len(took)
    assert sum(tokens for tokens, _ in took) > 0.2 * 100 * len(took)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_machine_that_changes_its_speed_is_followed(factor: float) -> None:
    pace = Pace()

    def beyond(speed: float) -> float:
        """Part of the usual time that pieces take."""
        took = 0.0
        for _ in range(400):
            tokens = pace.tokens(4, 1.0)
            seconds = (1 + tokens / 100) / speed
            pace.note(4, tokens, seconds)
            took += seconds * speed - 1
        return took / 400

    assert 0.7 * SHARE < beyond(1.0) <= 1.1 * SHARE
    beyond(factor)  # five measured steps of its own, one in EVERY
    assert 0.7 * SHARE < beyond(factor) <= 1.1 * SHARE


def test_a_step_without_pieces_is_measured_now_and_then() -> None:
    took, _ = driven(lambda tokens, _: 1 + tokens / 1000)
    without = [i for i, (tokens, _) in enumerate(took) if not tokens]
    assert without[0] == 0, "before anything is known"
    assert max(later - sooner for sooner, later in pairwise(without)) <= EVERY + 1


def alone(pace: Pace, steps: int) -> list[int]:
    """Pieces with nobody beside, of 1 ms a token."""
    pieces = []
    for _ in range(steps):
        pieces.append(pace.tokens(0, 1.0))
        pace.note(0, pieces[-1], pieces[-1] * 1e-3)
    return pieces


def test_alone_a_question_is_read_in_growing_pieces() -> None:
    pace = Pace()
    assert alone(pace, 6) == [LEAST << n for n in range(6)]
    pace.note(4, 0, 0.02)  # somebody came, and a step of its own took so long
    pace.tokens(4, 1.0)
    assert alone(pace, 5) == [LEAST, 2 * LEAST, 4 * LEAST, 160, 160], "no longer than eight such steps"


def test_a_step_of_a_size_that_was_never_measured_teaches_nothing_wrong() -> None:
    """The others' tokens were cut for the piece: the step is not the one that was asked about."""
    pace = Pace()
    pace.note(100, 0, 0.1)
    assert pace.tokens(100, 1.0) == LEAST
    pace.note(3, LEAST, 0.1)
    assert pace.tokens(100, 1.0) in range(LEAST)
