"""From the times of tokens to the figures of one level.

Times are seconds since just before the first request was submitted, so prefilling the suffixes and waiting for each
other are counted. Of n requests with k tokens each:

    tokens/s            n k / time of the last token
    decoding alone      tokens after the moment at which every request has its first / the time they took
    first token         of each request, its own time, waiting included
    between tokens      each gap between two tokens of one request; all gaps of all requests together
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

METRICS = (
    "tokens_per_second",
    "decode_tokens_per_second",
    "first_token_ms_p50",
    "first_token_ms_p95",
    "inter_token_ms_p50",
    "inter_token_ms_p95",
)


@dataclass(frozen=True, slots=True)
class Served:
    """When each token of each request came, in seconds, rising; every request has one token at least."""

    times: Sequence[Sequence[float]]

    @property
    def first_tokens(self) -> list[float]:
        """Seconds of each request until its first token."""
        return [request[0] for request in self.times]

    @property
    def seconds(self) -> float:
        """Until the last token of all."""
        return max(request[-1] for request in self.times)

    def metrics(self) -> dict[str, float]:
        """The figures of `METRICS`; those between tokens are 0 where each request has only one."""
        firsts = self.first_tokens
        gaps = [b - a for request in self.times for a, b in pairwise(request)] or [0.0]
        values = (
            sum(map(len, self.times)) / self.seconds,
            self._decode_rate(),
            percentile(firsts, 0.5) * 1e3,
            percentile(firsts, 0.95) * 1e3,
            percentile(gaps, 0.5) * 1e3,
            percentile(gaps, 0.95) * 1e3,
        )
        return dict(zip(METRICS, values, strict=True))

    def _decode_rate(self) -> float:
        begun = max(self.first_tokens)
        later = sum(t > begun for request in self.times for t in request)
        return later / (self.seconds - begun) if later else 0.0


def in_turn(times: Sequence[Sequence[float]], count: int) -> Served:
    """What `count` requests would see that are answered one after another, from the `times` of the first few of them.

    The requests that were not run take as long as those that were, over and over.
    """
    began = 0.0
    runs: list[list[float]] = []
    for request in times:
        runs.append([t - began for t in request])
        began = request[-1]
    answered: list[list[float]] = []
    began = 0.0
    for number in range(count):
        answered.append([began + t for t in runs[number % len(runs)]])
        began = answered[-1][-1]
    return Served(answered)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them do not exceed (nearest rank); the median of an even count
    is the mean of the two in the middle."""
    ordered = sorted(values)
    if share == 0.5 and len(ordered) % 2 == 0:
        return (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def agreeing(left: Sequence[int], right: Sequence[int]) -> int:
    """How many of the first tokens are the same."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
