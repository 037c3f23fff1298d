"""The classifier: which module's examples a question is most like, and how sure that is.

A linear model. Each module has one vector, the mean of its examples' features, scaled to unit length; a question has
one, in which rare features weigh more; the score is their product (SMART's lnc.ltc weighting: Salton and Buckley,
"Term-weighting approaches in automatic text retrieval", 1988). The confidence is calibrated on held-out examples:
docs/decisions/0013 compares it with what else was tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quire.router.calibration import CALIBRATING, Coefficients, fit
from quire.router.features import Hashes, Weights, example_features
from quire.router.postings import Postings, affordable, index_rows, spread_over
from quire.router.reading import Reading

FOLDS = 5
START = (-4.0, 8.0, 4.0)  # constant, similarity, its distance to the next
NOTHING = (np.zeros(0, np.uint32), np.zeros(0, np.float32))
Features = tuple[Hashes, Weights]


@dataclass(frozen=True, slots=True)
class Classifier:
    """The examples of one partition. Row i of the index is its i-th module that has any."""

    postings: Postings
    coefficients: Coefficients


def measure(scores: Sequence[float]) -> tuple[float, float]:
    """What the confidence depends on, of scores in falling order."""
    second = scores[1] if len(scores) > 1 else 0.0
    return scores[0], scores[0] - second


def similarities(parts: Sequence[Postings], features: Features) -> list[Weights]:
    """Between a question and each module of each part, 0 to 1."""
    terms, counted = features
    positions, spread, count = spread_over(parts, terms)
    weights = counted * np.log1p(count / np.maximum(spread, 0.5)).astype(np.float32)
    length = float(np.sqrt(np.dot(weights, weights))) or 1.0
    scaled = affordable(spread, weights / np.float32(length))
    return [part.scores(at, scaled) for part, at in zip(parts, positions, strict=True)]


def train(examples: Sequence[Sequence[str]], outside: Sequence[str]) -> Classifier:
    """The classifier of a partition. `examples`: those of each module. `outside`: questions that no module covers.

    Deterministic: the same examples give the same bytes.
    """
    features = [[example_features(Reading(text).tokens) for text in sorted(set(texts))] for texts in examples]
    postings = _index(features)
    measured: list[tuple[float, float]] = []
    right: list[bool] = []

    def note(index: Postings, asked: Features, module: int | None) -> None:
        (scores,) = similarities([index], asked)
        order = np.argsort(-scores, kind="stable")[:2]
        measured.append(measure([float(scores[i]) for i in order]))
        right.append(module == int(order[0]))

    budget = CALIBRATING // FOLDS
    for fold in range(FOLDS):
        held_out = [(m, f) for m, each in enumerate(features) for f in each[fold::FOLDS] if len(each) > 1]
        if held_out:
            index = _index(
                [[f for i, f in enumerate(each) if i % FOLDS != fold or len(each) == 1] for each in features]
            )
            for module, asked in held_out[:: -(-len(held_out) // budget)]:
                note(index, asked, module)
    if postings.count:
        for text in sorted(set(outside)):
            note(postings, example_features(Reading(text).tokens), None)
    return Classifier(postings, fit(START, measured, right))


def _index(features: Sequence[Sequence[Features]]) -> Postings:
    return index_rows([_mean(each) for each in features])


def _mean(examples: Sequence[Features]) -> Features:
    """The direction of the mean of some examples, each of unit length; nothing where there is none."""
    if not examples:
        return NOTHING
    terms = np.concatenate([terms for terms, _ in examples])
    weights = np.concatenate([weights / np.float32(np.sqrt(np.dot(weights, weights)) or 1) for _, weights in examples])
    unique, place = np.unique(terms, return_inverse=True)
    total = np.bincount(place, weights, len(unique))
    return unique, (total / (np.sqrt(np.dot(total, total)) or 1)).astype(np.float32)
