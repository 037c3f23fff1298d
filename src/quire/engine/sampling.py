"""Choosing the next token of every request in one batch.

Penalties and their order are those of transformers' logits processors. A row's choice depends on that row alone.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from quire.engine.filters import weights
from quire.errors import EngineError
from quire.model import likeliest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quire.core import Sampling


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural-log probability of a chosen token, before temperature, and the likeliest tokens with theirs."""

    logprob: float
    top: tuple[tuple[int, float], ...]


Choice = tuple[int, Likelihood | None]
Likeliest = Callable[[torch.Tensor], tuple[list[int], list[bool]]]


class Sampler:
    """How one request chooses: its parameters, what it has seen and chosen, its own random numbers."""

    def __init__(self, sampling: Sampling, prompt_ids: Iterable[int]) -> None:
        """`prompt_ids`: chain and suffix, which the repetition penalty covers."""
        self.sampling = sampling
        self.draws = sampling.temperature > 0
        self.repeats = sampling.repetition_penalty != 1.0
        self.counts = bool(sampling.frequency_penalty or sampling.presence_penalty)
        self.plain = not (self.draws or self.repeats or self.counts or sampling.logit_bias)
        self.seen = torch.tensor(sorted(set(prompt_ids)) if self.repeats else [], dtype=torch.long)
        self.added = Added()
        self._biases: dict[int, float] = {}
        for token_id, bias in sampling.logit_bias:
            self._biases[token_id] = self._biases.get(token_id, 0.0) + bias
            self.added.set(token_id, self._biases[token_id])
        self._chosen: Counter[int] = Counter()
        seed = None if sampling.seed is None else sampling.seed % 2**64  # `random` drops the sign
        self._random = random.Random(seed)  # noqa: S311 - draws, not secrets

    def draw(self) -> float:
        """The next random number, in (0, 1]. Mutates."""
        return 1.0 - self._random.random()

    def note(self, token_id: int) -> None:
        """Count a choice. Mutates."""
        if self.repeats and not self._chosen[token_id]:  # that the prompt has it too does no harm
            self.seen = torch.cat((self.seen, torch.tensor([token_id])))
        self._chosen[token_id] += 1
        if self.counts:
            s, count = self.sampling, self._chosen[token_id]
            bias = self._biases.get(token_id, 0.0)
            self.added.set(token_id, bias - s.frequency_penalty * count - s.presence_penalty)


class Added:
    """What is added to the scores of tokens: biases, and penalties of the answer so far.

    In arrays, so that a step that reads all of them copies memory and makes no objects.
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}  # of each token in the arrays
        self._tokens = array("q")
        self._values = array("f")

    def __len__(self) -> int:
        return len(self._tokens)

    def set(self, token_id: int, value: float) -> None:
        """Add `value` to the score of `token_id` in place of what was added before. Mutates."""
        place = self._places.setdefault(token_id, len(self._tokens))
        if place == len(self._tokens):
            self._tokens.append(token_id)
            self._values.append(value)
        else:
            self._values[place] = value

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and values, each token once: int64 and float32 [len(self)], views until the next `set`.

        ValueError: there are none.
        """
        return torch.frombuffer(self._tokens, dtype=torch.long), torch.frombuffer(self._values, dtype=torch.float)


def choose(
    logits: torch.Tensor, samplers: Sequence[Sampler], likeliest: Likeliest = likeliest
) -> list[Choice | EngineError]:
    """The next token of every row, or why it has none. Mutates `samplers`.

    Args:
        logits: floating point [rows, vocabulary], left unchanged.
        likeliest: how to find the best token of each row.
    """
    tokens, finite = likeliest(logits)
    if changed := [row for row, s in enumerate(samplers) if not s.plain]:
        chosen = _choose_changed(_rows(logits, changed), [samplers[row] for row in changed])
        for row, token in zip(changed, chosen, strict=True):
            tokens[row] = token
    tokens = [token if fine else 0 for token, fine in zip(tokens, finite, strict=True)]
    likelihoods = _likelihoods(logits, tokens, samplers)
    for sampler, token in zip(samplers, tokens, strict=True):
        if not sampler.plain:
            sampler.note(token)
    return [
        (token, likelihoods.get(row)) if fine else _not_finite()
        for row, (token, fine) in enumerate(zip(tokens, finite, strict=True))
    ]


def _choose_changed(scores: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """The tokens of rows that the likeliest logit alone does not decide. Overwrites `scores`."""
    _penalize_repetition(scores, samplers)
    _add(scores, samplers)
    tokens, _finite = likeliest(scores)
    if drawing := [row for row, s in enumerate(samplers) if s.draws]:
        drawn = _draw(_rows(scores, drawing), [samplers[row] for row in drawing])
        for row, token in zip(drawing, drawn, strict=True):
            tokens[row] = token
    return tokens


def _rows(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """A copy of these rows, float32 [len(rows), vocabulary]."""
    return logits.index_select(0, torch.tensor(rows, device=logits.device)).float()


def _penalize_repetition(scores: torch.Tensor, samplers: Sequence[Sampler]) -> None:
    """Divide positive scores of tokens that were seen by the row's penalty, and multiply negative ones. Mutates."""
    if not any(s.repeats for s in samplers):
        return
    lengths = torch.tensor([len(s.seen) for s in samplers])
    rows = torch.arange(len(samplers)).repeat_interleave(lengths).to(scores.device)
    seen = torch.cat([s.seen for s in samplers]).to(scores.device)
    penalties = torch.tensor([s.sampling.repetition_penalty for s in samplers]).repeat_interleave(lengths)
    penalties = penalties.to(scores.device)
    held = scores[rows, seen]
    scores[rows, seen] = torch.where(held < 0, held * penalties, held / penalties)


def _add(scores: torch.Tensor, samplers: Sequence[Sampler]) -> None:
    """Add biases, and penalties of what each answer has said. Mutates."""
    adding = [(row, *s.added.tensors()) for row, s in enumerate(samplers) if len(s.added)]
    if adding:
        rows = torch.cat([torch.full_like(tokens, row) for row, tokens, _ in adding]).to(scores.device)
        tokens = torch.cat([tokens for _, tokens, _ in adding]).to(scores.device)
        scores[rows, tokens] += torch.cat([values for _, _, values in adding]).to(scores.device)


def _draw(scores: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One token for each row by inverting its distribution function at the row's own random number."""
    cumulative = weights(scores, [s.sampling for s in samplers]).cumsum(-1)
    numbers = torch.tensor([[s.draw()] for s in samplers], device=scores.device)
    # The first place that reaches a number above zero and up to the total: a token of no probability never is one.
    drawn: list[int] = torch.searchsorted(cumulative, numbers * cumulative[:, -1:]).squeeze(1).tolist()
    return drawn


def _likelihoods(logits: torch.Tensor, tokens: Sequence[int], samplers: Sequence[Sampler]) -> dict[int, Likelihood]:
    """What rows that ask for log-probabilities get, by row."""
    counts = {row: s.sampling.logprobs for row, s in enumerate(samplers) if s.sampling.logprobs is not None}
    if not counts:
        return {}
    rows = list(counts)
    logprobs = torch.log_softmax(_rows(logits, rows), dim=-1)
    at = torch.tensor([[tokens[row]] for row in rows], device=logits.device)
    chosen = logprobs.gather(1, at).squeeze(1).tolist()
    best = logprobs.topk(max(counts.values()))
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return {
        row: Likelihood(logprob, tuple(zip(ids[: counts[row]], values[: counts[row]], strict=True)))
        for row, logprob, (ids, values) in zip(rows, chosen, tops, strict=True)
    }


def _not_finite() -> EngineError:
    return EngineError(
        "the model's logits are not finite numbers",
        hint="the model may overflow in this dtype: set model.dtype to bfloat16 or float32 and build again",
    )
