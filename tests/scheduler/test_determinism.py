"""A greedy answer is the same whatever the company: who joins and leaves, how questions are cut, who gives way.

How far this holds: tokens are equal as long as no two candidates are nearer to each other than rounding is large. The
tiny model computes in float32, and its candidates lie further apart.
"""

from __future__ import annotations

import random
import time

import pytest

from quire import Project
from quire.core import Delta, Sampling
from quire.model.kv import GRAIN

from .driving import Inbox, Passes, scheduling

WORDS = ["bolt", "nut", "parcel", "why", "when", "who", "日本", "<|im_end|>"]
GREEDY = Sampling(max_tokens=90, ignore_eos=True, logprobs=0)


def question(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, words)))


def logprobs(inbox: Inbox) -> list[float]:
    return [p.logprob for item in inbox.items if isinstance(item, Delta) for p in item.logprobs]


def same_logprobs(project: Project, ours: Inbox, expected: Inbox) -> bool:
    """To the last bit, where the arithmetic does not depend on the batch; else but for rounding."""
    if project.model.backend.steady:
        return logprobs(ours) == logprobs(expected)
    return logprobs(ours) == pytest.approx(logprobs(expected), abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_greedy_answer_is_the_same_in_any_company(project: Project, passes: Passes, seed: int) -> None:
    draw = random.Random(seed)
    asked = [(question(draw, 12), draw.choice(["company", "prices", "shipping"])) for _ in range(6)]
    with scheduling(project, step_tokens=512) as (_, submit):
        alone = []
        for text, module in asked:
            alone.append(submit(text, GREEDY, module=module)[1])
            assert alone[-1].reason == "length"
    passes.rows.clear()
    room = (7 + 8 * seed) * GRAIN
    with scheduling(project, step_tokens=draw.choice([16, 24, 48]), suffix_tokens=room, guesses=8) as (
        scheduler,
        submit,
    ):
        company, others = [], []
        for text, module in asked:
            for _ in range(draw.randint(0, 3)):
                sampling = Sampling(max_tokens=draw.randint(1, 60), temperature=draw.choice([0.0, 1.0]))
                others.append(submit(question(draw, 30), sampling, module=draw.choice(["company", "prices"])))
            company.append(submit(text, GREEDY, module=module)[1])
            time.sleep(draw.random() * 0.05)
            if others:
                scheduler.cancel(draw.choice(others)[0])
        assert [inbox.reason for inbox in company] == ["length"] * len(company)
        assert max(len(tokens) for tokens in passes.rows) >= 3
        if seed == 0:
            assert scheduler.load().preemptions > 0
    for ours, expected in zip(company, alone, strict=True):
        assert ours.token_ids == expected.token_ids
        assert logprobs(ours) == pytest.approx(logprobs(expected), abs=1e-4)
