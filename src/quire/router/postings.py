"""An index from features to the rows that have them: the one data structure of both learned stages.

How rare a feature is, is counted when a question comes, over the partitions that it may look at. So a partition holds
nothing about any other, and all scores of one question are on one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.router.features import Hashes, Weights

Positions = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
MOST_ENTRIES = 50_000  # of lists, over all partitions, for one question: rare features first, which say most
COMMON = 0.25  # of the rows: a feature of more of them says next to nothing, and would cost most of the time
MANY_ROWS = 64  # from which that holds


@dataclass(frozen=True, slots=True)
class Postings:
    """`rows[starts[i]:starts[i + 1]]` have the feature `terms[i]`, ascending, with `weights` likewise.

    `terms` ascends. `spread[i]`: how many rows have it; more than are listed where it is too common to be.
    """

    terms: Hashes  # [t]
    starts: npt.NDArray[np.int64]  # [t + 1]
    rows: npt.NDArray[np.int32]  # [n]
    weights: Weights  # [n]
    spread: npt.NDArray[np.int32]  # [t]
    count: int  # rows

    def find(self, terms: Hashes) -> Positions:
        """Where each of `terms` stands; -1 where it does not."""
        if not len(self.terms):
            return np.full(len(terms), -1, np.int64)
        at = np.minimum(np.searchsorted(self.terms, terms), len(self.terms) - 1)
        return np.where(self.terms[at] == terms, at, -1)

    def spread_at(self, positions: Positions) -> Counts:
        """In how many rows each feature is; 0 for position -1."""
        if not len(self.spread):
            return np.zeros(len(positions), np.int64)
        return np.where(positions >= 0, self.spread[positions], 0).astype(np.int64)

    def scores(self, positions: Positions, weights: Weights) -> Weights:
        """For each row the sum of its features' weights times `weights`. [count]"""
        known = (positions >= 0) & (weights != 0)
        begins, ends = self.starts[positions[known]], self.starts[positions[known] + 1]
        sizes = ends - begins
        # One list of all entries of all features: entry i of a feature stands `begins` + i.
        entries = np.repeat(ends - np.cumsum(sizes), sizes) + np.arange(sizes.sum())
        products = self.weights[entries] * np.repeat(weights[known], sizes)
        return np.bincount(self.rows[entries], products, self.count).astype(np.float32)

    def has(self, row: int, positions: Positions) -> npt.NDArray[np.bool_]:
        """Whether `row` has the feature at each position."""
        found = np.zeros(len(positions), np.bool_)
        for i, position in enumerate(positions.tolist()):
            if position >= 0:
                rows = self.rows[self.starts[position] : self.starts[position + 1]]
                at = int(np.searchsorted(rows, row))
                found[i] = at < len(rows) and rows[at] == row
        return found

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[np.generic]]:
        """For `of_arrays`, by names that begin with `prefix`."""
        return {
            f"{prefix}.terms": self.terms,
            f"{prefix}.starts": self.starts,
            f"{prefix}.rows": self.rows,
            f"{prefix}.weights": self.weights,
            f"{prefix}.spread": self.spread,
            f"{prefix}.count": np.array([self.count], np.int64),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]], prefix: str) -> Postings:
        """Raises KeyError, IndexError for arrays that are none."""
        terms, starts, rows, weights, spread = (
            arrays[f"{prefix}.{name}"] for name in ("terms", "starts", "rows", "weights", "spread")
        )
        return cls(  # types are those that `arrays` wrote: the bytes were compared with their digest
            terms.view(np.uint32),
            starts.view(np.int64),
            rows.view(np.int32),
            weights.view(np.float32),
            spread.view(np.int32),
            int(arrays[f"{prefix}.count"].view(np.int64)[0]),
        )


def index_rows(rows: Sequence[tuple[Hashes, Weights]]) -> Postings:
    """The index of rows, each given by its features, none twice, and their weights."""
    row = np.repeat(np.arange(len(rows), dtype=np.int32), [len(terms) for terms, _ in rows])
    term = np.concatenate([terms for terms, _ in rows] or [np.zeros(0, np.uint32)])
    weight = np.concatenate([weights for _, weights in rows] or [np.zeros(0, np.float32)])
    order = np.lexsort((row, term))
    row, term, weight = row[order], term[order], weight[order]
    terms, spread = np.unique(term, return_counts=True)
    if len(rows) >= MANY_ROWS:
        listed = np.repeat(spread <= COMMON * len(rows), spread)
        row, weight = row[listed], weight[listed]
        sizes = np.where(spread <= COMMON * len(rows), spread, 0)
    else:
        sizes = spread
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Postings(terms, starts, row, weight, spread.astype(np.int32), len(rows))


def affordable(spread: Counts, weights: Weights) -> Weights:
    """`weights` without those of the most common features, so that a question never costs more than it may."""
    order = np.argsort(spread, kind="stable")
    kept = np.zeros(len(spread), np.bool_)
    kept[order] = np.cumsum(spread[order]) <= MOST_ENTRIES
    return np.where(kept, weights, np.float32(0))


def spread_over(parts: Sequence[Postings], terms: Hashes) -> tuple[list[Positions], Counts, int]:
    """Of `terms` in several indexes: the positions in each, in how many rows each is, and how many rows there are."""
    order = np.argsort(terms)  # what stands close to what was sought before is found several times faster
    back = np.argsort(order)
    positions = [part.find(terms[order])[back] for part in parts]
    spread = sum((p.spread_at(at) for p, at in zip(parts, positions, strict=True)), np.zeros(len(terms), np.int64))
    return positions, spread, sum(part.count for part in parts)
