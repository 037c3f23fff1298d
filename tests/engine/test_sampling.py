"""The next token is chosen as transformers would choose it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from quire.core import Sampling
from quire.engine.sampling import Sampler, check_sampling, filtered
from quire.errors import EngineError, InvalidRequest

VOCABULARY = 40
GREEDY = Sampling()


def logits(seed: int, ties: bool = False) -> torch.Tensor:
    scores = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 4
    return scores.round() if ties else scores


def sampler(sampling: Sampling, prompt: list[int] | None = None) -> Sampler:
    return Sampler(sampling, prompt or [], str)


warped = st.builds(
    Sampling,
    temperature=st.floats(0.05, 5.0),
    top_k=st.integers(0, VOCABULARY),
    top_p=st.floats(0.01, 1.0),
    min_p=st.floats(0.0, 1.0),
)


@settings(max_examples=200, deadline=None)
@given(sampling=warped, seed=st.integers(0, 500), ties=st.booleans())
def test_filters_are_those_of_transformers(sampling: Sampling, seed: int, ties: bool) -> None:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    scores = logits(seed, ties)
    expected = warpers(torch.empty(1, 0, dtype=torch.long), scores[None])[0]
    assert torch.equal(filtered(scores, sampling), expected)


@settings(max_examples=100, deadline=None)
@given(
    penalty=st.floats(0.5, 2.0),
    prompt=st.lists(st.integers(0, VOCABULARY - 1), max_size=10),
    seed=st.integers(0, 500),
)
def test_repetition_penalty_is_that_of_transformers(penalty: float, prompt: list[int], seed: int) -> None:
    """Over prompt and answer: each token seen counts once, however often it was seen."""
    ours = sampler(replace(GREEDY, repetition_penalty=penalty), prompt)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)
    seen = list(prompt)
    for step in range(12):
        scores = logits(seed + step)
        processed = theirs(torch.tensor([seen], dtype=torch.long), scores[None].clone())[0] if seen else scores
        token, _ = ours.choose(scores)
        assert token == int(processed.argmax())
        seen.append(token)


def test_frequency_and_presence_count_the_answer_alone() -> None:
    flat = torch.zeros(VOCABULARY)
    flat[7], flat[3] = 1.0, 0.9
    ours = sampler(replace(GREEDY, frequency_penalty=0.3), prompt=[3, 3, 3])
    assert [ours.choose(flat)[0] for _ in range(4)] == [7, 3, 7, 3]
    ours = sampler(replace(GREEDY, presence_penalty=0.05), prompt=[7])
    assert [ours.choose(flat)[0] for _ in range(3)] == [7, 7, 7]
    ours = sampler(replace(GREEDY, presence_penalty=0.2))
    assert [ours.choose(flat)[0] for _ in range(3)] == [7, 3, 7]


def test_a_bias_is_added_before_the_choice_and_not_to_the_logprobs() -> None:
    scores = logits(1)
    best = int(scores.argmax())
    token, logprob = sampler(replace(GREEDY, logit_bias=((best, -100.0), (5, 100.0)), logprobs=0)).choose(scores)
    assert token == 5
    assert logprob is not None
    assert logprob.logprob == pytest.approx(float(torch.log_softmax(scores, -1)[5]))
    assert torch.equal(scores, logits(1)), "the caller's logits stay as they are"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 500), count=st.integers(0, 20), ties=st.booleans())
def test_logprobs_are_the_log_softmax_of_the_models_own_logits(seed: int, count: int, ties: bool) -> None:
    scores = logits(seed, ties)
    expected = torch.log_softmax(scores, -1)
    token, found = sampler(Sampling(temperature=0.7, seed=1, logprobs=count)).choose(scores)
    assert found is not None
    assert (found.token_id, found.text) == (token, str(token))
    assert found.logprob == pytest.approx(float(expected[token]))
    assert len(found.top) == count
    best = expected.sort(descending=True).values
    for rank, (number, text, value) in enumerate(found.top):
        assert text == str(number)
        assert value == pytest.approx(float(expected[number])) == pytest.approx(float(best[rank]))


def test_a_seed_decides_everything() -> None:
    def choices(seed: int | None) -> list[int]:
        ours = sampler(Sampling(temperature=1.5, seed=seed))
        return [ours.choose(logits(step))[0] for step in range(40)]

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)
    assert choices(-1) == choices(-1)
    assert choices(2**64 + 1) == choices(2**64 + 1)
    assert choices(None) != choices(None)


def test_draws_follow_the_distribution() -> None:
    """Chi-squared of 20,000 draws; a wrong distribution of the same support would be far above the bound."""
    sampling = Sampling(temperature=1.3, top_k=8, seed=3)
    scores = logits(9) / 2
    expected = torch.softmax(filtered(scores, sampling), -1)
    ours, draws = sampler(sampling), 20_000
    counts = Counter(ours.choose(scores)[0] for _ in range(draws))
    assert set(counts) <= {i for i, p in enumerate(expected) if p > 0}
    statistic = sum((counts[i] - draws * p) ** 2 / (draws * p) for i, p in enumerate(expected.tolist()) if p > 0)
    assert statistic < 24.3, "99.9 % quantile for 7 degrees of freedom"


def test_temperature_zero_takes_the_first_of_the_best() -> None:
    scores = torch.zeros(VOCABULARY)
    scores[[4, 9]] = 2.0
    assert sampler(GREEDY).choose(scores)[0] == 4


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 100.0])
def test_extreme_temperatures_still_choose(temperature: float) -> None:
    scores = torch.tensor([0.0, 300.0, -300.0, 299.0])
    token, _ = Sampler(Sampling(temperature=temperature, seed=1, min_p=0.5), [], str).choose(scores)
    assert token in {1, 3}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error_and_not_a_token(value: float, temperature: float) -> None:
    scores = logits(1)
    scores[3] = value
    with pytest.raises(EngineError, match="not finite"):
        sampler(Sampling(temperature=temperature)).choose(scores)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": 1e-9}),
    ("temperature", {"temperature": float("nan")}),
    ("temperature", {"temperature": "hot"}),
    ("temperature", {"temperature": None}),
    ("temperature", {"temperature": True}),
    ("top_k", {"top_k": -1}),
    ("top_k", {"top_k": 2.5}),
    ("top_k", {"top_k": VOCABULARY + 1}),
    ("top_p", {"top_p": 0.0}),
    ("top_p", {"top_p": 1.1}),
    ("min_p", {"min_p": float("inf")}),
    ("repetition_penalty", {"repetition_penalty": 0.0}),
    ("frequency_penalty", {"frequency_penalty": 2.5}),
    ("presence_penalty", {"presence_penalty": -3}),
    ("logprobs", {"logprobs": 21}),
    ("logprobs", {"logprobs": -1}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": 1.5}),
    ("seed", {"seed": "one"}),
    ("stop", {"stop": ("",)}),
    ("stop", {"stop": "word"}),
    ("stop", {"stop": (3,)}),
    ("logit_bias", {"logit_bias": ((VOCABULARY, 1.0),)}),
    ("logit_bias", {"logit_bias": ((-1, 1.0),)}),
    ("logit_bias", {"logit_bias": ((1, 101.0),)}),
    ("logit_bias", {"logit_bias": ((1,),)}),
    ("logit_bias", {"logit_bias": {1: 2.0}}),
]


@pytest.mark.parametrize(("name", "values"), REFUSED, ids=[str(v) for _, v in REFUSED])
def test_what_cannot_be_meant_is_refused_by_name(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=name) as refused:
        check_sampling(Sampling(**values), VOCABULARY)
    assert refused.value.param == name


@settings(max_examples=100, deadline=None)
@given(sampling=warped)
def test_what_is_within_the_bounds_is_accepted(sampling: Sampling) -> None:
    check_sampling(sampling, VOCABULARY)
