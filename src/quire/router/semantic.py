"""The semantic stage: which module's text a question is about. Lexical, and honest about it.

Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) over passages, with
words and beginnings of words; a module scores as its best passage does. It knows no synonyms. An embedding model would,
but a question's embedding is a model call, and routing makes none: docs/decisions/0013 has the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.patterns import fold
from quire.router.calibration import CALIBRATING, Coefficients, fit
from quire.router.features import Weights, hashed, text_terms
from quire.router.postings import Positions, Postings, affordable, index_rows, spread_over
from quire.router.reading import WORD, Reading

K1 = 1.2  # how soon repetition stops to count
B = 0.75  # how much long passages are held back
START = (-6.0, 1.5, 5.0, 2.0)  # constant, log of the score, share of the question, relative distance to the next


@dataclass(frozen=True, slots=True)
class TextIndex:
    """The passages of one partition. Those of its i-th module begin with row `first[i]`."""

    postings: Postings
    first: npt.NDArray[np.int64]
    coefficients: Coefficients


@dataclass(frozen=True, slots=True)
class Sought:
    """A question in some indexes. `most`: the score of a passage that has all of it many times."""

    words: tuple[str, ...]  # terms as text
    positions: list[Positions]
    rarity: Weights
    scores: list[Weights]  # of each passage

    @property
    def most(self) -> float:
        return float(self.rarity.sum()) * (K1 + 1)


def seek(parts: Sequence[Postings], reading: Reading) -> Sought:
    """Score every passage for a question."""
    words = tuple(text_terms(dict.fromkeys(reading.tokens)))  # in an order that is the same in every process
    positions, spread, count = spread_over(parts, hashed(words))
    rarity = np.log1p((count - spread + 0.5) / (spread + 0.5)).astype(np.float32)
    weights = affordable(spread, rarity)
    scores = [part.scores(at, weights) for part, at in zip(parts, positions, strict=True)]
    return Sought(words, positions, rarity, scores)


def best_of_modules(scores: Weights, first: npt.NDArray[np.int64]) -> Weights:
    """Each module's best passage."""
    return np.maximum.reduceat(scores, first) if len(first) else scores


def measure(scores: Sequence[float], most: float) -> tuple[float, float, float]:
    """What the confidence depends on, of modules' scores in falling order."""
    top, second = scores[0], scores[1] if len(scores) > 1 else 0.0
    return math.log1p(top), top / most if most else 0.0, (top - second) / top if top else 0.0


def index_passages(
    passages: Sequence[Sequence[str]], examples: Sequence[Sequence[str]], outside: Sequence[str]
) -> TextIndex:
    """The index of a partition, calibrated on the modules' examples, which it does not contain.

    `passages` and `examples`: those of each module, at least one passage each.
    """
    counted = [text_terms(WORD.findall(fold(text))) for each in passages for text in each]
    lengths = np.array([sum(terms.values()) for terms in counted], np.float64)
    held_back = K1 * (1 - B + B * lengths / (lengths.mean() if lengths.size and lengths.any() else 1.0))
    rows = []
    for terms, back in zip(counted, held_back, strict=True):
        times = np.array(list(terms.values()), np.float64)
        rows.append((hashed(terms), (times * (K1 + 1) / (times + back)).astype(np.float32)))
    postings = index_rows(rows)
    first = np.cumsum([0, *(len(each) for each in passages[:-1])]).astype(np.int64)
    known = [(text, module) for module, each in enumerate(examples) for text in sorted(set(each))]
    asked = known[:: -(-len(known) // CALIBRATING) or 1]
    measured, right = [], []
    for text, module in [*asked, *((text, -1) for text in sorted(set(outside)))]:
        sought = seek([postings], Reading(text))
        scores = best_of_modules(sought.scores[0], first)
        order = np.argsort(-scores, kind="stable")[:2]
        measured.append(measure([float(scores[i]) for i in order], sought.most))
        right.append(module == int(order[0]))
    return TextIndex(postings, first, fit(START, measured, right))
