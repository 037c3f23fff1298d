"""Beside a question that is as long as can be an answer goes on, and the question is read, too.

The schedule is driven step by step on the real engine, and told how long a step would take on a small machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quire import Project
from quire.scheduler import Ticket

from .driving import ATTENDED, TOKEN, Steps, own_tokens


def asked_beside(project: Project, words: int, tenants: Sequence[str]) -> tuple[float, float]:
    """Seconds of a short question's answer: its usual time, and beside questions of `words`, always one of a tenant."""
    made = Steps(project, step_tokens=512)
    short = made.ask("short", 12)
    while short not in made.ended:
        made.step()
    usual = made.seconds
    pressing: dict[str, Ticket] = {}
    took = []
    for number in range(30):
        began, short = made.seconds, made.ask("short", 12, text=f"{number}?")
        while short not in made.ended:
            for tenant in tenants:
                if pressing.get(tenant) in {None, *made.ended}:
                    pressing[tenant] = made.ask(tenant, 1, text=f"{number} " + "word " * words)
            made.step()
        took.append(made.seconds - began)
    assert set(tenants) <= {ticket.tenant for ticket in made.ended}, "each has been answered"
    made.close()
    return usual, sum(took) / len(took)


@pytest.mark.parametrize("words", [40, 200, 800])
@pytest.mark.parametrize("tenants", [["short"], ["other"]])
def test_an_answer_takes_under_twice_its_usual_time_beside_a_long_question(
    project: Project, words: int, tenants: list[str]
) -> None:
    usual, beside = asked_beside(project, words, tenants)
    assert usual < beside < 2 * usual


def test_a_long_question_beside_many_answers_has_a_third_of_the_time(project: Project) -> None:
    made = Steps(project, max_sequences=16)
    answers = [made.ask("many", 300, text=f"{number}?") for number in range(12)]
    while not all(ticket in made.began for ticket in answers):
        made.step()
    began = made.seconds
    long = made.ask("many", 1, text="word " * 600)
    while long not in made.ended:
        made.step()
    alone = own_tokens(long) * (TOKEN + ATTENDED * own_tokens(long) / 2)
    assert made.seconds - began < 4 * alone
    made.close()


def test_long_questions_of_a_tenant_take_turns_with_those_of_others(project: Project) -> None:
    """Ten of one and one of another, all as long: it is not the last to be read."""
    made = Steps(project, max_sequences=16)
    crowd = [made.ask("crowd", 1, text=f"{number} " + "word " * 300) for number in range(10)]
    calm = made.ask("calm", 1, text="word " * 300)
    while calm not in made.ended:
        made.step()
    assert sum(ticket in made.ended for ticket in crowd) <= 3
    made.close()


def test_shorter_questions_do_not_hold_up_a_long_one_for_ever(project: Project) -> None:
    made = Steps(project, step_tokens=64)
    long = made.ask("same", 1, text="word " * 500)
    for number in range(60):
        if long in made.ended:
            break
        shorter = made.ask("same", 1, text=f"{number} " + "word " * 100)
        while shorter not in made.ended:
            made.step()
    assert long in made.ended
    made.close()
