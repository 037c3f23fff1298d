"""Choosing the next token of every request in one batch.

Penalties and their order are those of transformers' logits processors. A row's choice depends on that row alone.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from quire.engine.filters import probabilities
from quire.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quire.core import Sampling


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural-log probability of a chosen token, before temperature, and the likeliest tokens with theirs."""

    logprob: float
    top: tuple[tuple[int, float], ...]


Choice = tuple[int, Likelihood | None]


class Sampler:
    """How one request chooses: its parameters, what it has seen and chosen, its own random numbers."""

    def __init__(self, sampling: Sampling, prompt_ids: Iterable[int]) -> None:
        """`prompt_ids`: chain and suffix, which the repetition penalty covers."""
        self.sampling = sampling
        s = sampling
        self.repeats = s.repetition_penalty != 1.0
        self.offsets = bool(s.frequency_penalty or s.presence_penalty or s.logit_bias)
        self.draws = s.temperature > 0
        self.plain = not (self.repeats or self.offsets or self.draws)
        self.seen = torch.tensor(sorted(set(prompt_ids)) if self.repeats else [], dtype=torch.long)
        self._counts: Counter[int] = Counter()
        seed = None if s.seed is None else s.seed % 2**64  # `random` drops the sign
        self._random = random.Random(seed)  # noqa: S311 - draws, not secrets

    def draw(self) -> float:
        """The next random number, in (0, 1]. Mutates."""
        return 1.0 - self._random.random()

    def note(self, token_id: int) -> None:
        """Count a choice. Mutates."""
        if self.repeats and not self._counts[token_id] and not bool((self.seen == token_id).any()):
            self.seen = torch.cat((self.seen, torch.tensor([token_id])))
        self._counts[token_id] += 1

    def add_offsets(self, scores: torch.Tensor) -> None:
        """Frequency and presence penalties of what was chosen, and biases. Mutates `scores` [vocabulary]."""
        s = self.sampling
        changes = {token: -s.frequency_penalty * n - s.presence_penalty for token, n in self._counts.items()}
        for token, bias in s.logit_bias:
            changes[token] = changes.get(token, 0.0) + bias
        scores[list(changes)] += torch.tensor(list(changes.values()), device=scores.device)


def choose(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[Choice | EngineError]:
    """The next token of every row, or why it has none. Mutates `samplers`.

    Args:
        logits: float32 [rows, vocabulary], left unchanged.
    """
    likeliest = logits.numpy(force=True).argmax(-1)  # on a CPU seven times as fast as torch's own
    tokens: list[int] = likeliest.tolist()
    best = logits.gather(1, torch.from_numpy(likeliest[:, None]).to(logits.device))
    finite: list[bool] = torch.isfinite(best).squeeze(1).tolist()
    if changed := [row for row, s in enumerate(samplers) if not s.plain]:
        chosen = _choose_changed(logits[changed], [samplers[row] for row in changed])
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
    if any(s.repeats for s in samplers):
        _penalize_repetition(scores, samplers)
    for row, sampler in enumerate(samplers):
        if sampler.offsets:
            sampler.add_offsets(scores[row])
    tokens: list[int] = scores.numpy(force=True).argmax(-1).tolist()
    if drawing := [row for row, s in enumerate(samplers) if s.draws]:
        drawn = _draw(scores[drawing], [samplers[row] for row in drawing])
        for row, token in zip(drawing, drawn, strict=True):
            tokens[row] = token
    return tokens


def _penalize_repetition(scores: torch.Tensor, samplers: Sequence[Sampler]) -> None:
    """Divide positive scores of tokens that were seen by the row's penalty, and multiply negative ones. Mutates."""
    lengths = torch.tensor([len(s.seen) for s in samplers])
    seen = torch.cat([s.seen for s in samplers]).to(scores.device)
    rows = torch.arange(len(samplers)).repeat_interleave(lengths).to(scores.device)
    penalties = torch.tensor([s.sampling.repetition_penalty for s in samplers]).repeat_interleave(lengths)
    penalties = penalties.to(scores.device)
    held = scores[rows, seen]
    scores[rows, seen] = torch.where(held < 0, held * penalties, held / penalties)


def _draw(scores: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One token for each row by inverting its distribution function at the row's own random number."""
    cumulative = probabilities(scores, [s.sampling for s in samplers]).cumsum(-1)
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
    logprobs = torch.log_softmax(logits[rows], dim=-1)
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
