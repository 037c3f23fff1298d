"""From what a stage measured to a probability that its best module is the right one.

Platt's scaling (Advances in Large Margin Classifiers, 1999) with more than one measurement: a logistic regression on
questions whose answer is known. It starts from coefficients that do tolerably everywhere and moves as far as the data
pull it: few examples change little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Coefficients = npt.NDArray[np.float64]
CALIBRATING = 2000  # questions, at most: the coefficients hardly change any more, and training stays quick
PULL = 1.0  # towards the start: as one example of each measurement would
ROUNDS = 25  # of Newton's method; it is done after about six


def confidence(coefficients: Coefficients, measured: Sequence[float]) -> float:
    """The probability. `coefficients` has one more number than `measured`: the first is the constant."""
    logit = float(coefficients[0] + np.dot(coefficients[1:], measured))
    return float(1 / (1 + np.exp(-min(max(logit, -30.0), 30.0))))


def fit(start: Sequence[float], measured: Sequence[Sequence[float]], right: Sequence[bool]) -> Coefficients:
    """Coefficients for measurements of which is known whether the best module was the right one."""
    center = np.array(start, np.float64)
    if not measured:
        return center
    x = np.column_stack([np.ones(len(measured)), np.array(measured, np.float64)])
    y = np.array(right, np.float64)
    now = center.copy()
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(x @ now, -30, 30)))
        slope = x.T @ (p - y) + PULL * (now - center)
        curve = (x * (p * (1 - p))[:, None]).T @ x + PULL * np.eye(len(center))
        now = now - np.linalg.solve(curve, slope)
    return now
