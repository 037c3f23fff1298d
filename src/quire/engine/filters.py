"""What a drawn token may be: temperature, top-k, top-p and min-p, in the order and sense of transformers' warpers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import Sampling

TOKEN_BITS, WEIGHT_BITS = (
    20,
    30,
)  # of a key: up to a million tokens; in float32, 0..1 has two bits zero


def weights(scores: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """What each row draws from: proportional to probabilities, zero for tokens that its filters exclude.

    Args:
        scores: float32 [rows, vocabulary], overwritten.
        samplings: one for each row, all with a temperature.
    """
    scores /= torch.tensor([[s.temperature] for s in samplings], device=scores.device)
    _keep_top_k(scores, [s.top_k for s in samplings])
    found = torch.softmax(scores, dim=-1)
    _keep_nuclei(found, [s.top_p for s in samplings])
    if any(s.min_p for s in samplings):
        least = torch.tensor([[s.min_p] for s in samplings], device=scores.device)
        found *= found >= least * found.amax(-1, keepdim=True)
    return found


def _keep_top_k(scores: torch.Tensor, counts: Sequence[int]) -> None:
    """Exclude from each row what is below its `counts` best; 0 keeps all. Mutates."""
    rows = [row for row, count in enumerate(counts) if count]
    if not rows:
        return
    best = scores[rows].topk(max(counts)).values
    last = torch.tensor([[counts[row] - 1] for row in rows], device=scores.device)
    floor = scores.new_full((len(counts), 1), float("-inf"))
    floor[rows] = best.gather(1, last)
    scores.masked_fill_(scores < floor, float("-inf"))


def _keep_nuclei(weights: torch.Tensor, masses: Sequence[float]) -> None:
    """Exclude from each row the least likely tokens that together weigh at most 1 - its mass; 1.0 keeps all. Mutates.

    Tokens below (1 - mass) / vocabulary are among them, since all of those together weigh no more. That leaves few to
    sort: to sort a whole vocabulary takes longer than everything else of a choice together. Row, weight and token of
    what is left are sorted as one integer each.
    """
    rows = torch.tensor([row for row, mass in enumerate(masses) if mass < 1.0], device=weights.device)
    if not len(rows):
        return
    part = weights[rows] if len(rows) < len(weights) else weights
    outside = 1 - torch.tensor([mass for mass in masses if mass < 1.0], dtype=torch.float64, device=weights.device)
    counts = part > 0.5 * outside[:, None].float() / part.shape[1]  # half: for rounding
    row, token = counts.nonzero(as_tuple=True)
    bits = part[row, token].view(torch.int32).long()  # of positive numbers: in the order of the numbers
    keys = (row << WEIGHT_BITS + TOKEN_BITS) + (bits << TOKEN_BITS) + token
    on_cpu = keys.device.type == "cpu"
    keys = torch.from_numpy(np.sort(keys.numpy())) if on_cpu else keys.sort().values  # numpy's is five times as fast
    row, token = keys >> WEIGHT_BITS + TOKEN_BITS, keys & (1 << TOKEN_BITS) - 1
    weight = (keys >> TOKEN_BITS & (1 << WEIGHT_BITS) - 1).int().view(torch.float32)
    up_to = weight.cumsum(0, dtype=torch.float64)
    last = torch.bincount(row, minlength=len(rows)).cumsum(0) - 1  # and the heaviest, of each row
    rest = part.masked_fill(counts, 0.0).sum(1).double()
    rest[1:] -= up_to[last[:-1]]
    kept = up_to + rest[row] > outside[row]  # with all that is lighter: sums of little, so rounding takes little
    kept[last] = True
    weights.index_fill_(0, rows, 0.0)
    weights[rows[row[kept]], token[kept]] = weight[kept]
