"""What a drawn token may be: temperature, top-k, top-p and min-p, in the order and sense of transformers' warpers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import Sampling

OUT = float("-inf")


def probabilities(scores: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """What each row draws from, zero for tokens that its filters exclude. Overwrites `scores`.

    Args:
        scores: float32 [rows, vocabulary].
        samplings: one for each row, all with a temperature.
    """
    scores /= torch.tensor([[s.temperature] for s in samplings], device=scores.device)
    _keep_top_k(scores, [s.top_k for s in samplings])
    for row, sampling in enumerate(samplings):
        if sampling.top_p < 1.0:
            _keep_nucleus(scores[row], sampling.top_p)
    found = torch.softmax(scores, dim=-1)
    if any(s.min_p for s in samplings):
        least = torch.tensor([[s.min_p] for s in samplings], device=scores.device)
        scores.masked_fill_(found < least * found.amax(-1, keepdim=True), OUT)
        found = torch.softmax(scores, dim=-1)
    return found


def _keep_top_k(scores: torch.Tensor, counts: Sequence[int]) -> None:
    """Exclude from each row what is below its `counts` best; 0 keeps all. Mutates."""
    rows = [row for row, count in enumerate(counts) if count]
    if not rows:
        return
    best = scores[rows].topk(max(counts)).values
    last = torch.tensor([[counts[row] - 1] for row in rows], device=scores.device)
    floor = scores.new_full((len(counts), 1), OUT)
    floor[rows] = best.gather(1, last)
    scores.masked_fill_(scores < floor, OUT)


def _keep_nucleus(scores: torch.Tensor, mass: float) -> None:
    """Exclude the least likely tokens that together weigh at most 1 - `mass`. `scores`: [vocabulary]. Mutates.

    Tokens below (1 - mass) / vocabulary are among them, since all of those together weigh no more. That leaves few to
    sort: sorting a whole vocabulary takes longer than everything else of a choice together.
    """
    weights = torch.softmax(scores, dim=-1)
    candidates = (weights > 0.5 * (1 - mass) / len(weights)).nonzero().squeeze(1)  # half: weights are rounded
    ascending, order = weights[candidates].sort(stable=True)
    up_to = ascending.cumsum(0, dtype=torch.float64)
    rest = weights.sum(dtype=torch.float64) - up_to[-1]
    outside = rest + up_to <= 1 - mass
    outside[-1] = False
    kept = candidates[order[~outside]]
    held = scores[kept]
    scores.fill_(OUT)
    scores[kept] = held
