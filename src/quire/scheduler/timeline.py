"""When what happened: to one request, and in all steps so far."""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128)  # requests of a step, counted up to each of these, and beyond the last


@dataclass(slots=True)
class Timeline:
    """When a request's phases began, in seconds of `time.perf_counter`. The engine's thread writes it.

    It waits until `began`, reads its question until `chose` (its first token), and answers until `ended`. `steps`: in
    which it took part; `widest`: requests in the fullest of them; `sent_back`: how often it gave its place away.
    """

    submitted: float = field(default_factory=time.perf_counter)
    began: float | None = None
    chose: float | None = None
    ended: float | None = None
    steps: int = 0
    widest: int = 0
    sent_back: int = 0

    def step(self, began: float, ended: float, width: int, *, chose: bool) -> None:
        """It took part in a step of `width` requests. Mutates."""
        if self.began is None:
            self.began = began
        if chose and self.chose is None:
            self.chose = ended
        self.steps += 1
        self.widest = max(self.widest, width)

    @property
    def queue_seconds(self) -> float | None:
        """Until its first step; None if there was none."""
        return None if self.began is None else self.began - self.submitted

    @property
    def prefill_seconds(self) -> float | None:
        """From its first step to its first token."""
        return None if self.began is None or self.chose is None else self.chose - self.began


@dataclass(frozen=True, slots=True)
class Steps:
    """All steps so far. `widths[i]`: how many had up to WIDTHS[i] requests and more than the one before; last: more."""

    widths: tuple[int, ...] = (0,) * (len(WIDTHS) + 1)
    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def after(self, requests: int, tokens: int, seconds: float) -> Steps:
        """These and one more."""
        at = bisect_left(WIDTHS, requests)
        widths = tuple(count + (i == at) for i, count in enumerate(self.widths))
        return Steps(widths, self.requests + requests, self.tokens + tokens, self.seconds + seconds)
