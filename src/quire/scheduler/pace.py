"""How many tokens of long questions a step computes, so that the answers beside them go on at a good pace.

A question is read in pieces that are computed together with the next tokens of the answers, each as large as the time
between two tokens allows (chunked prefill: Agrawal and others, Sarathi-Serve, arXiv 2403.02310). How long a piece takes
depends on the machine, on what else it does, and on how much of the question lies before the piece. So it is read off
the last pieces, and what one took too long the next ones wait for.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from statistics import median

LONG = 64  # tokens: a shorter question is read at once
SHARE = 0.5  # seconds of long questions, for each second of the others' own
MOST = 8.0  # steps without pieces: as long takes one with nobody beside, and so much is saved up or owed
LEAST = 32  # tokens of a piece: each reads the KV of all before it
EVERY = 16  # steps, one of which is without pieces
LAST = 5  # steps whose median counts


class Pace:
    """Times steps with and without pieces. One thread."""

    def __init__(self) -> None:
        self._usual: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=LAST))  # seconds, by size
        self._costs: deque[float] = deque(maxlen=LAST)  # seconds of a piece's token
        self._saved = 0.0  # seconds that pieces may take; below 0: that they took too long
        self._since = 0  # steps beside others, since the last without pieces
        self._alone = LEAST  # tokens of a piece with nobody beside

    def tokens(self, others: int, ratio: float) -> int:
        """Tokens of long questions in the next step; 0: they wait. Mutates.

        Args:
            others: tokens of the step without them.
            ratio: long questions for each other request; where they are more, they get more time.
        """
        if not others:
            shortest = min((median(times) for times in self._usual.values()), default=math.inf)
            piece = max(LEAST, min(self._alone, self._worth(MOST * shortest)))
            self._alone = 2 * piece  # not at once as many as it may be: somebody may come who has only just left
            return piece
        self._alone = LEAST
        times = self._usual.get(_size(others))
        if not times or self._since >= EVERY:
            return 0
        usual = median(times)
        least = LEAST * median(self._costs) if self._costs else 0.0
        self._saved = min(self._saved + SHARE * max(ratio, 1.0) * usual, max(MOST * usual, least))
        piece = self._worth(self._saved)
        return piece if piece >= LEAST else 0

    def note(self, others: int, tokens: int, seconds: float) -> None:
        """What a step took, `tokens` of long questions in it. Mutates."""
        if not tokens:
            self._usual[_size(others)].append(seconds)
            self._since = 0
            return
        usual = 0.0
        if others:
            times = self._usual.get(_size(others))
            usual = median(times) if times else seconds * others / (others + tokens)  # they were cut for the piece
            self._saved = max(self._saved - (seconds - usual), -MOST * usual)
            self._since += 1
        if tokens >= LEAST:  # of the few at a question's end the difference says little
            self._costs.append(max(seconds - usual, seconds / 100) / tokens)

    def _worth(self, seconds: float) -> int:
        """Tokens that take so long."""
        if not self._costs:
            return LEAST
        return int(min(seconds / median(self._costs), 1 << 20))


def _size(tokens: int) -> int:
    """Steps of the same size take about as long."""
    return tokens.bit_length()
