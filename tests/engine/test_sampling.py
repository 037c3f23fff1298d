"""The next token is chosen as transformers would choose it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
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
from quire.engine.filters import weights
from quire.engine.refusing import LONGEST_STOP, MOST_BIASES, check_sampling
from quire.engine.sampling import Likeliest, Likelihood, Sampler, choose
from quire.errors import EngineError, InvalidRequest
from quire.model.kernels import find_compiler, load_library
from quire.model.likeliest import likeliest, likeliest_on_device, native_likeliest

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VOCABULARY = 40
GREEDY = Sampling()


def logits(seed: int, ties: bool = False) -> torch.Tensor:
    scores = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 4
    return scores.round() if ties else scores


def pick(sampler: Sampler, scores: torch.Tensor) -> tuple[int, Likelihood | None]:
    """The choice of a batch of one."""
    [choice] = choose(scores[None].to(DEVICE), [sampler])
    if isinstance(choice, EngineError):
        raise choice
    return choice


def probabilities(scores: torch.Tensor, samplings: list[Sampling]) -> torch.Tensor:
    found = weights(scores.clone(), samplings)
    return found / found.sum(-1, keepdim=True)


def warped_by_transformers(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Its probabilities. The order of the warpers is that of its `generate`."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return torch.softmax(warpers(torch.empty(1, 0, dtype=torch.long), scores[None])[0], -1)


warped = st.builds(
    Sampling,
    temperature=st.floats(0.05, 5.0),
    top_k=st.integers(0, VOCABULARY),
    top_p=st.floats(float(np.float32(0.01)), 1.0, width=32),  # transformers' sums have no more digits
    min_p=st.floats(0.0, 1.0),
)


@settings(max_examples=200, deadline=None)
@example(rows=[(Sampling(temperature=0.5, top_p=1 - 2**-24), 1, False)])
@given(rows=st.lists(st.tuples(warped, st.integers(0, 500), st.booleans()), min_size=1, max_size=5))
def test_filters_are_those_of_transformers(rows: list[tuple[Sampling, int, bool]]) -> None:
    """Row by row, whatever the parameters of the others are."""
    scores = torch.stack([logits(seed, ties) for _, seed, ties in rows])
    expected = [warped_by_transformers(row, sampling) for row, (sampling, _, _) in zip(scores, rows, strict=True)]
    found = probabilities(scores, [sampling for sampling, _, _ in rows])
    for ours, theirs, (sampling, _, _) in zip(found, expected, rows, strict=True):
        assert same_but_for_the_edge(ours, theirs, sampling)


def same_but_for_the_edge(ours: torch.Tensor, theirs: torch.Tensor, sampling: Sampling) -> bool:
    """Equal but for rounding, and for which of equally likely tokens is left out.

    Where one has a token more, a sum of probabilities is the bound but for rounding.
    """
    more, fewer = (ours, theirs) if int((ours > 0).sum()) > int((theirs > 0).sum()) else (theirs, ours)
    both = (more > 0) & (fewer > 0)
    count = int((fewer > 0).sum())
    likeliest = more.sort(descending=True).values
    if not torch.allclose(likeliest[:count] / likeliest[:count].sum(), fewer.sort(descending=True).values[:count]):
        return False
    if not torch.allclose(more[both] * fewer[both].sum(), fewer[both] * more[both].sum()):
        return False
    edge = likeliest[count:][likeliest[count:] > 0]
    return not len(edge) or (len(edge) == 1 and abs(float(likeliest[:count].sum()) - sampling.top_p) < 1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.9, 0.999999])
def test_top_p_of_a_large_vocabulary_is_that_of_transformers(temperature: float, top_p: float) -> None:
    scores = torch.randn(50_000, generator=torch.Generator().manual_seed(8)) * 2
    sampling = Sampling(temperature=temperature, top_p=top_p)
    ours, theirs = probabilities(scores[None], [sampling])[0], warped_by_transformers(scores, sampling)
    assert float((ours - theirs).abs().sum()) < 2e-5, "theirs are sums of 50,000 numbers in float32"
    if top_p < 0.99:
        assert abs(int((ours > 0).sum()) - int((theirs > 0).sum())) <= 1


def test_logits_that_are_all_alike_leave_top_p_something_to_choose() -> None:
    flat = torch.zeros(1, 50_000)
    assert int((weights(flat, [Sampling(temperature=1.0, top_p=1e-6)]) > 0).sum()) == 1


everything = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.8]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.4]),
    logit_bias=st.sampled_from([(), ((3, 2.0), (7, -5.0))]),
    logprobs=st.sampled_from([None, 0, 3]),
    seed=st.integers(0, 3),
)


@settings(max_examples=100, deadline=None)
@given(samplings=st.lists(everything, min_size=1, max_size=6), seed=st.integers(0, 500))
def test_a_row_chooses_as_if_it_were_alone(samplings: list[Sampling], seed: int) -> None:
    """Whatever the others in the batch ask for, one of whom has no numbers to choose from."""
    together, alone = ([Sampler(s, [1, 2, 3]) for s in samplings] for _ in range(2))
    broken = Sampler(Sampling(temperature=1.0, logprobs=2), [])
    for step in range(6):
        scores = torch.stack([logits(seed + step + 7 * row) for row in range(len(samplings))])
        batch = torch.cat([scores, torch.full((1, VOCABULARY), float("nan"))])
        *choices, none = choose(batch, [*together, broken])
        assert isinstance(none, EngineError)
        assert choices == [pick(sampler, row) for sampler, row in zip(alone, scores, strict=True)]


@settings(max_examples=100, deadline=None)
@given(
    penalty=st.floats(0.5, 2.0),
    prompt=st.lists(st.integers(0, VOCABULARY - 1), max_size=10),
    seed=st.integers(0, 500),
)
def test_repetition_penalty_is_that_of_transformers(penalty: float, prompt: list[int], seed: int) -> None:
    """Over prompt and answer: each token seen counts once, however often it was seen."""
    ours = Sampler(replace(GREEDY, repetition_penalty=penalty), prompt)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)
    seen = list(prompt)
    for step in range(12):
        scores = logits(seed + step)
        processed = theirs(torch.tensor([seen], dtype=torch.long), scores[None].clone())[0] if seen else scores
        token, _ = pick(ours, scores)
        assert token == int(processed.argmax())
        seen.append(token)


def test_frequency_and_presence_count_the_answer_alone() -> None:
    flat = torch.zeros(VOCABULARY)
    flat[7], flat[3] = 1.0, 0.9
    ours = Sampler(replace(GREEDY, frequency_penalty=0.3), [3, 3, 3])
    assert [pick(ours, flat)[0] for _ in range(4)] == [7, 3, 7, 3]
    ours = Sampler(replace(GREEDY, presence_penalty=0.05), [7])
    assert [pick(ours, flat)[0] for _ in range(3)] == [7, 7, 7]
    ours = Sampler(replace(GREEDY, presence_penalty=0.2), [])
    assert [pick(ours, flat)[0] for _ in range(3)] == [7, 3, 7]


def test_a_bias_is_added_before_the_choice_and_not_to_the_logprobs() -> None:
    scores = logits(1)
    best = int(scores.argmax())
    token, logprob = pick(Sampler(replace(GREEDY, logit_bias=((best, -100.0), (5, 100.0)), logprobs=0), []), scores)
    assert token == 5
    assert logprob is not None
    assert logprob.logprob == pytest.approx(float(torch.log_softmax(scores, -1)[5]))
    assert torch.equal(scores, logits(1)), "the caller's logits stay as they are"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 500), count=st.integers(0, 20), ties=st.booleans())
def test_logprobs_are_the_log_softmax_of_the_models_own_logits(seed: int, count: int, ties: bool) -> None:
    scores = logits(seed, ties)
    expected = torch.log_softmax(scores, -1)
    token, found = pick(Sampler(Sampling(temperature=0.7, seed=1, logprobs=count), []), scores)
    assert found is not None
    assert found.logprob == pytest.approx(float(expected[token]))
    assert len(found.top) == count
    best = expected.sort(descending=True).values
    for rank, (number, value) in enumerate(found.top):
        assert value == pytest.approx(float(expected[number])) == pytest.approx(float(best[rank]))


def test_a_seed_decides_everything() -> None:
    def choices(seed: int | None) -> list[int]:
        ours = Sampler(Sampling(temperature=1.5, seed=seed), [])
        return [pick(ours, logits(step))[0] for step in range(40)]

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)
    assert choices(-1) == choices(-1)
    assert choices(-1) != choices(1)
    assert choices(2**64 + 1) == choices(2**64 + 1)
    assert choices(None) != choices(None)


def test_draws_follow_the_distribution() -> None:
    """Chi-squared of 20,000 draws; a wrong distribution of the same support would be far above the bound."""
    sampling = Sampling(temperature=1.3, top_k=8, seed=3)
    scores = logits(9) / 2
    expected = probabilities(scores[None], [sampling])[0]
    ours, draws = Sampler(sampling, []), 20_000
    counts = Counter(pick(ours, scores)[0] for _ in range(draws))
    assert set(counts) <= {i for i, p in enumerate(expected) if p > 0}
    statistic = sum((counts[i] - draws * p) ** 2 / (draws * p) for i, p in enumerate(expected.tolist()) if p > 0)
    assert statistic < 24.3, "99.9 % quantile for 7 degrees of freedom"


def test_temperature_zero_takes_the_first_of_the_best() -> None:
    scores = torch.zeros(VOCABULARY)
    scores[[4, 9]] = 2.0
    assert pick(Sampler(GREEDY, []), scores)[0] == 4


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.sampled_from([-1.0, 0.0, 2.0, float("inf"), float("-inf"), float("nan")]), max_size=80),
    width=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_all_ways_to_the_best_token_are_one(numbers: list[float], width: int, dtype: torch.dtype) -> None:
    """Of a GPU, of PyTorch on a CPU and of our kernels: the first of several equal ones, and none that is no number."""
    good = torch.arange(width) % 3 / 2
    rows = [torch.tensor(numbers[i : i + width]) for i in range(0, len(numbers) - width + 1, width)]
    scores = torch.stack([*rows, good, good.flip(0)]).to(dtype)
    expected = [int(row.float().numpy().argmax()) if torch.isfinite(row.amax()) else None for row in scores]
    ways: list[Likeliest] = [likeliest, likeliest_on_device]
    if find_compiler():
        ways.append(partial(native_likeliest, load_library(), threads=2))
    for way in ways:
        tokens, finite = way(scores.to(DEVICE) if way is likeliest_on_device else scores)
        assert [token if fine else None for token, fine in zip(tokens, finite, strict=True)] == expected


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 100.0])
def test_extreme_temperatures_still_choose(temperature: float) -> None:
    scores = torch.tensor([0.0, 300.0, -300.0, 299.0])
    token, _ = pick(Sampler(Sampling(temperature=temperature, seed=1, min_p=0.5), []), scores)
    assert token in {1, 3}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error_and_not_a_token(value: float, temperature: float) -> None:
    scores = logits(1)
    scores[3] = value
    with pytest.raises(EngineError, match="not finite"):
        pick(Sampler(Sampling(temperature=temperature), []), scores)


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
    ("stop", {"stop": ("a", "b", "c", "d", "e")}),
    ("stop", {"stop": ("a" * (LONGEST_STOP + 1),)}),
    ("logit_bias", {"logit_bias": ((1, 1.0),) * (MOST_BIASES + 1)}),
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


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ((7, 1e7), "logit_bias of token 7 must be between -100 and 100, found 10000000"),
        ((7, -100.25), "logit_bias of token 7 must be between -100 and 100, found -100.25"),
        ((12345678, 1.0), f"logit_bias token must be between 0 and {VOCABULARY - 1}, found 12345678"),
        ((10**5000, 1.0), f"logit_bias token must be between 0 and {VOCABULARY - 1}, found a very large number"),
    ],
)
def test_a_refused_bias_is_shown_with_its_token_and_as_it_was_given(pair: tuple[int, float], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_sampling(Sampling(logit_bias=(pair,)), VOCABULARY)
    assert refused.value.message == said


@settings(max_examples=100, deadline=None)
@given(sampling=warped)
def test_what_is_within_the_bounds_is_accepted(sampling: Sampling) -> None:
    check_sampling(sampling, VOCABULARY)
