"""Choosing the next token. Penalties, filters and their order are those of transformers' logits processors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from quire.core import Sampling, TokenLogprob
from quire.errors import EngineError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_LOGPROBS = 20
LEAST_TEMPERATURE = 1e-6  # below, dividing by it leaves the range of float32
REAL = ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
WHOLE = ("top_k", "seed", "logprobs", "max_tokens")


def check_sampling(sampling: Sampling, vocabulary: int) -> None:
    """Refuse what cannot be meant.

    Raises:
        InvalidRequest: naming the parameter and its bounds.
    """
    _check_types(sampling)
    bounds: list[tuple[str, float, float, float]] = [
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_k", sampling.top_k, 0, vocabulary),
        ("top_p", sampling.top_p, 1e-6, 1.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("repetition_penalty", sampling.repetition_penalty, 1e-3, 100.0),
        ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
        ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
        ("logprobs", sampling.logprobs or 0, 0, MOST_LOGPROBS),
    ]
    bounds += [("logit_bias token", token, 0, vocabulary - 1) for token, _ in sampling.logit_bias]
    bounds += [("logit_bias", bias, -100.0, 100.0) for _, bias in sampling.logit_bias]
    if sampling.max_tokens is not None:
        bounds.append(("max_tokens", sampling.max_tokens, 1, float("inf")))
    for name, value, low, high in bounds:
        if not low <= value <= high:
            raise InvalidRequest(
                f"{name} must be between {low:g} and {high:g}, found {value:g}",
                hint=f"change {name}",
                param=name.split()[0],
            )
    if any(not s for s in sampling.stop):
        raise InvalidRequest("a stop string is empty", hint="leave it out", param="stop")
    if 0.0 < sampling.temperature < LEAST_TEMPERATURE:
        raise InvalidRequest(
            f"temperature must be 0 or at least {LEAST_TEMPERATURE:g}, found {sampling.temperature:g}",
            hint="0 always takes the likeliest token",
            param="temperature",
        )


def _check_types(sampling: Sampling) -> None:
    def check(name: str, value: object, kinds: tuple[type, ...], expected: str) -> None:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise InvalidRequest(
                f"{name} must be {expected}, found {value!r:.90}", hint=f"change {name}", param=name.split()[0]
            )

    for name in REAL:
        check(name, getattr(sampling, name), (int, float), "a number")
    for name in WHOLE:
        if getattr(sampling, name) is not None:
            check(name, getattr(sampling, name), (int,), "an integer")
    check("stop", sampling.stop, (tuple, list), "a sequence of texts")
    for text in sampling.stop:
        check("stop", text, (str,), "a sequence of texts")
    check("logit_bias", sampling.logit_bias, (tuple, list), "a sequence of pairs of token id and bias")
    for pair in sampling.logit_bias:
        check("logit_bias", pair, (tuple, list), "a sequence of pairs of token id and bias")
        if len(pair) != 2:
            raise InvalidRequest(
                f"logit_bias must have pairs, found {pair!r:.90}", hint="give (token id, bias)", param="logit_bias"
            )
        check("logit_bias token", pair[0], (int,), "an integer")
        check("logit_bias", pair[1], (int, float), "a number")


class Sampler:
    """The choices of one request. The same seed gives the same choices from the same logits."""

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int], piece: Callable[[int], str]) -> None:
        """`prompt_ids`: chain and suffix, which the repetition penalty covers; `piece`: the text of one token."""
        self._sampling = sampling
        self._piece = piece
        self._counts: dict[int, int] = {}
        self._prompt = frozenset(prompt_ids)
        self._seen = torch.tensor(sorted(self._prompt), dtype=torch.long)
        self._generator: torch.Generator | None = None
        if sampling.temperature > 0:
            self._generator = torch.Generator()
            if sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(sampling.seed % 2**63)

    def choose(self, logits: torch.Tensor) -> tuple[int, TokenLogprob | None]:
        """The next token, and its log-probability if asked for. `logits`: float32 [vocabulary], left unchanged.

        Raises:
            EngineError: the model computed something that is no number.
        """
        if not math.isfinite(float(logits.max())):
            raise EngineError(
                "the model's logits are not finite numbers",
                hint="the model may overflow in this dtype: set model.dtype to bfloat16 or float32 and build again",
            )
        scores = self._penalized(logits)
        if self._generator is None:
            token = int(scores.argmax())
        else:
            probabilities = torch.softmax(filtered(scores, self._sampling), dim=-1)
            token = int(torch.multinomial(probabilities, 1, generator=self._generator))
        self._counts[token] = self._counts.get(token, 0) + 1
        return token, self._logprob(logits, token)

    def _penalized(self, logits: torch.Tensor) -> torch.Tensor:
        s = self._sampling
        if s.repetition_penalty == 1.0 and not s.frequency_penalty and not s.presence_penalty and not s.logit_bias:
            return logits
        scores = logits.clone()
        if s.repetition_penalty != 1.0:
            chosen = torch.tensor([t for t in self._counts if t not in self._prompt], dtype=torch.long)
            seen = torch.cat([self._seen, chosen])
            held = scores[seen]
            scores[seen] = torch.where(held < 0, held * s.repetition_penalty, held / s.repetition_penalty)
        for token, count in self._counts.items():
            scores[token] -= s.frequency_penalty * count + s.presence_penalty
        for token, bias in s.logit_bias:
            scores[token] += bias
        return scores

    def _logprob(self, logits: torch.Tensor, token: int) -> TokenLogprob | None:
        count = self._sampling.logprobs
        if count is None:
            return None
        logprobs = torch.log_softmax(logits, dim=-1)
        best = torch.topk(logprobs, count) if count else None
        top = (
            ()
            if best is None
            else tuple((int(i), self._piece(int(i)), float(p)) for p, i in zip(best.values, best.indices, strict=True))
        )
        return TokenLogprob(token, self._piece(token), float(logprobs[token]), top)


def filtered(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Scores over temperature, with -inf for tokens that top-k, top-p and min-p exclude, in that order."""
    scores = scores / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        scores = scores.masked_fill(scores < torch.topk(scores, sampling.top_k).values[-1], float("-inf"))
    if sampling.top_p < 1.0:
        ascending, indices = torch.sort(scores)
        outside = torch.softmax(ascending, dim=-1).cumsum(dim=-1) <= 1 - sampling.top_p
        outside[-1] = False
        scores = scores.masked_fill(torch.zeros_like(outside).scatter(0, indices, outside), float("-inf"))
    if sampling.min_p > 0.0:
        probabilities = torch.softmax(scores, dim=-1)
        scores = scores.masked_fill(probabilities < sampling.min_p * probabilities.max(), float("-inf"))
    return scores
