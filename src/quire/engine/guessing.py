"""Guesses at an answer's next tokens, taken from what the text has said before and checked in the same step.

An answer from a document often repeats it. Where the last tokens stand in the chain or the conversation already, what
followed them there is a guess; the pass that computes the last token computes the guess too, and as much of it counts
as the model would have chosen itself (speculative decoding, Leviathan et al., arXiv 2211.17192, with the text as its
own draft: Yang et al., "Inference with Reference", arXiv 2304.04487). A step costs little more for some tokens than for
one, since it reads the weights and the document once. Where a token's bits do not depend on the tokens beside it
(`Backend.steady`), an answer is the same with and without guesses.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.pool import ChainLease

LONGEST = 8  # tokens that are compared
LATEST = 64  # places that are looked at: the last ones
# Of the next token, by tokens that agree; about what was found.
CHANCES = (0.0, 0.0, 0.25, 0.5, 0.65, 0.8, 0.8, 0.8, 0.8)


class Phrases:
    """Where every pair of tokens of a chain stands."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self.token_ids = token_ids
        ids = np.asarray(token_ids, dtype=np.int64)
        pairs = _pair(ids[:-1], ids[1:])
        self._places = pairs.argsort(kind="stable")
        self._pairs = pairs[self._places]

    def after(self, first: int, second: int) -> Sequence[int]:
        """Places behind the pair, the last ones in order; none at the end of the text."""
        low, high = np.searchsorted(self._pairs, _pair(np.int64(first), np.int64(second)) + np.array([0, 1]))
        places: list[int] = (self._places[max(low, high - LATEST) : high] + 2).tolist()
        return [place for place in places if place < len(self.token_ids)]


class Phrasebook:
    """The phrases of the chains that were asked for last. Any thread."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Phrases] = OrderedDict()

    def phrases(self, lease: ChainLease) -> Phrases:
        """Those of the leased chain. Mutates."""
        digest = lease.leaf.digest
        with self._lock:
            if known := self._known.get(digest):
                self._known.move_to_end(digest)
                return known
        made = Phrases(lease.token_ids)
        with self._lock:
            self._known[digest] = made
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return made


class StepTimes:
    """How much longer a step takes for a token more: a line through the last steps, by their tokens and seconds."""

    MEMORY = 0.98  # a step counts by this much less with each one after it
    MOST = 128  # tokens of a step that is like decoding
    SPREAD = 1.0  # least variance of tokens that says anything
    FIXED = (1.0, 64.0)  # what is believed of `fixed`

    def __init__(self) -> None:
        self.fixed = 16.0  # tokens that take as long as what every step takes: reading weights and document
        self._sums = np.zeros(5)  # of 1, tokens, tokens^2, seconds, tokens x seconds

    def note(self, tokens: int, seconds: float) -> None:
        """Of one step. Mutates."""
        if tokens > self.MOST:
            return
        self._sums = self._sums * self.MEMORY + (1.0, tokens, tokens**2, seconds, tokens * seconds)
        count, *means = self._sums
        x, xx, y, xy = (each / count for each in means)
        spread, slope = xx - x * x, xy - x * y
        if spread >= self.SPREAD and slope > 0:
            low, high = self.FIXED
            self.fixed = float(min(max(y * spread / slope - x, low), high))

    def cost(self, requests: int) -> float:
        """Part of a step's time by which a token more for each of its `requests` prolongs it."""
        return requests / (requests + self.fixed)


class Guesser:
    """What one request's next tokens may be, and how often that was right."""

    def __init__(self, phrases: Phrases) -> None:
        self.checked = 0  # guessed tokens up to the first wrong one of each step
        self.right = 0
        self._phrases = phrases
        self._own: dict[tuple[int, int], list[int]] = {}  # places behind each pair of suffix and answer
        self._noted = 1

    def guess(self, token_ids: Sequence[int], most: int, cost: float) -> list[int]:
        """Tokens that may follow `token_ids`, the suffix and the answer so far; no more than seem worth it. Mutates.

        Args:
            cost: of a token more, see `StepTimes`, between 0 and 1: who is right less often than that loses by it.
        """
        self._note(token_ids)
        if len(token_ids) < 2 or most < 1:
            return []
        pair = (token_ids[-2], token_ids[-1])
        chain = self._phrases.token_ids
        found: tuple[int, Sequence[int], int] = (0, (), 0)
        for text, places in ((chain, self._phrases.after(*pair)), (token_ids, self._own.get(pair, [])[-LATEST:])):
            for place in places:
                length = _agreeing(text, place, token_ids)
                if length >= found[0]:
                    found = (length, text, place)
        length, text, place = found
        count = min(most, self._worth(length, cost))
        return list(text[place : place + count])

    def learn(self, guessed: int, right: int) -> None:
        """`right` of `guessed` tokens were what the model chose. Mutates."""
        self.right += right
        self.checked += min(right + 1, guessed)

    def _worth(self, length: int, cost: float) -> int:
        """How many tokens have a better chance to be right than their cost: it falls from one to the next."""
        chance = (CHANCES[length] + (self.right + 1) / (self.checked + 3)) / 2
        return int(math.log(cost) / math.log(chance))

    def _note(self, token_ids: Sequence[int]) -> None:
        for place in range(self._noted, len(token_ids) - 1):
            self._own.setdefault((token_ids[place - 1], token_ids[place]), []).append(place + 1)
        self._noted = max(self._noted, len(token_ids) - 1)


def _agreeing(text: Sequence[int], place: int, token_ids: Sequence[int]) -> int:
    """How many tokens before `place` in `text` are the last ones of `token_ids`, `LONGEST` at most."""
    length = 2
    while length < min(LONGEST, place, len(token_ids)) and text[place - 1 - length] == token_ids[-1 - length]:
        length += 1
    return length


def _pair(first: np.ndarray | np.int64, second: np.ndarray | np.int64) -> np.ndarray:
    return np.asarray((first << 32) + second)
