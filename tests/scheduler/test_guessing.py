"""Guessed tokens save steps and change nothing else."""

from __future__ import annotations

import pytest

from quire import Project
from quire.core import Sampling
from quire.engine import LocalEngine, Sessions
from quire.model import KVSpace

from .driving import Inbox, Passes, scheduling
from .test_determinism import same_logprobs

# A model with random weights says some of its tokens again and again.
ASKED = ["Why?", "bolt bolt bolt bolt", "A nut costs 1 pound. A nut", "日本 parcel"]
GREEDY = Sampling(max_tokens=60, ignore_eos=True, logprobs=2)


def answers(project: Project, guesses: int, sampling: Sampling, session: str | None = None) -> list[Inbox]:
    with scheduling(project, guesses=guesses) as (_, submit):
        said = []
        for text in ASKED:
            said.append(submit(text, sampling, session=session)[1])
            assert said[-1].reason in {"length", "stop"}
    return said


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(max_tokens=60),
        Sampling(max_tokens=7, ignore_eos=True),
        Sampling(max_tokens=60, stop=("t", "e")),
        Sampling(max_tokens=40, logit_bias=((5, 3.0),), ignore_eos=True),
        Sampling(max_tokens=40, temperature=1.0, seed=3, ignore_eos=True),
    ],
    ids=["logprobs", "end of text", "few", "stop strings", "biased", "drawn"],
)
@pytest.mark.parametrize("session", [None, "talk"])
def test_answers_are_the_same(project: Project, sampling: Sampling, session: str | None) -> None:
    plain, guessed = (answers(project, guesses, sampling, session) for guesses in (0, 8))
    for ours, expected in zip(guessed, plain, strict=True):
        assert (ours.token_ids, ours.text, ours.reason) == (expected.token_ids, expected.text, expected.reason)
        assert same_logprobs(project, ours, expected)


@pytest.fixture
def steady(project: Project) -> None:
    if not project.model.backend.steady:
        pytest.skip("guesses need arithmetic that does not depend on the batch: there is no C++ compiler")


@pytest.mark.usefixtures("steady")
def test_steps_are_saved(project: Project, passes: Passes) -> None:
    steps = {}
    for guesses in (0, 8):
        passes.rows.clear()
        answers(project, guesses, GREEDY)
        steps[guesses] = len(passes.rows)
    assert steps[8] < 0.9 * steps[0], steps


@pytest.mark.usefixtures("steady")
def test_tokens_that_were_guessed_rightly_count_as_computed(project: Project, passes: Passes) -> None:
    counted: dict[int, list[tuple[int, float]]] = {0: [], 8: []}
    steps = []
    for guesses, figures in counted.items():
        passes.rows.clear()
        for text in ASKED:
            with scheduling(project, guesses=guesses) as (scheduler, submit):
                ticket, inbox = submit(text, GREEDY)
                assert inbox.reason == "length"
                saved = scheduler._schedule._accounts.saved(ticket.tenant)
                figures.append((scheduler.load().steps.tokens, saved))
        steps.append(len(passes.rows))
    assert counted[8] == counted[0]
    assert steps[1] < steps[0], "some were guessed"


@pytest.mark.usefixtures("steady")
def test_arithmetic_that_depends_on_company_makes_no_guesses(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    space = KVSpace(project.model.geometry, 256)
    assert LocalEngine(project.model, space, Sessions(space, 0), guesses=8)._guesses == 8
    monkeypatch.setattr(type(project.model.backend), "steady", False)
    assert LocalEngine(project.model, space, Sessions(space, 0), guesses=8)._guesses == 0
