"""One forward pass over the newest tokens of many requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from quire.model.attention import AttentionPlan, SharedSpan, SuffixSpan
from quire.model.sending import send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import KVSegment
    from quire.model.backends import Backend
    from quire.model.kv import GrowingKV
    from quire.model.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class Row:
    """The part of one request that a pass computes: `token_ids` follow `chain` and what `kv` holds already.

    `wanted`: of how many of the last tokens the logits are wanted.
    """

    chain: tuple[KVSegment, ...]
    kv: GrowingKV
    token_ids: Sequence[int]
    wanted: int = 1

    @property
    def position(self) -> int:
        """Position of the first of `token_ids`."""
        return (self.chain[-1].position_end if self.chain else 0) + self.kv.length


def plan_attention(rows: Sequence[Row], backend: Backend) -> AttentionPlan:
    """The plan for rows in the order given; rows with a common chain prefix must stand side by side (`order`)."""
    return backend.attention(*spans(rows))


def spans(rows: Sequence[Row]) -> tuple[list[SharedSpan], list[SuffixSpan]]:
    """Who attends to what: see `plan_attention`."""
    shared: list[SharedSpan] = []
    suffixes: list[SuffixSpan] = []
    start = 0
    for row in rows:
        end = start + len(row.token_ids)
        for depth, segment in enumerate(row.chain):
            last = next((i for i in range(len(shared) - 1, -1, -1) if shared[i].depth == depth), None)
            if last is not None and shared[last].segment is segment and shared[last].end == start:
                shared[last] = SharedSpan(segment, shared[last].start, end, depth)
            else:
                shared.append(SharedSpan(segment, start, end, depth))
        suffixes.append(SuffixSpan(row.kv, start, end, row.kv.length))
        start = end
    return shared, suffixes


def order(rows: Sequence[Row]) -> list[int]:
    """Indices of `rows` such that those sharing a chain prefix are neighbours; stable."""
    rank: dict[int, int] = {}
    for row in rows:
        for segment in row.chain:
            rank.setdefault(id(segment), len(rank))
    return sorted(range(len(rows)), key=lambda i: [rank[id(s)] for s in rows[i].chain])


def forward(model: LoadedModel, rows: Sequence[Row]) -> torch.Tensor:
    """Compute the KV of every row's tokens and the logits after its last ones. Mutates each row's `kv`.

    Args:
        rows: at least one, none of them empty, no two with the same `kv`.

    Returns:
        logits in the model's dtype, [sum of `wanted`, vocabulary], in the order of `rows`.
    """
    arranged = order(rows)
    ordered = [rows[i] for i in arranged]
    for row in ordered:
        row.kv.reserve(len(row.token_ids))
    logits = model.decoder.run(ordered, arranged) if model.decoder else None
    if logits is None:
        logits = _compute(model, ordered, arranged)
    for row in ordered:
        row.kv.length += len(row.token_ids)
    return logits


def _compute(model: LoadedModel, ordered: Sequence[Row], arranged: Sequence[int]) -> torch.Tensor:
    """Logits of `forward` for any rows. `arranged`: where each of them stood."""
    counts = [len(row.token_ids) for row in ordered]
    ends = np.cumsum(counts)
    places = {at: np.arange(end - row.wanted, end) for at, end, row in zip(arranged, ends, ordered, strict=True)}
    lasts = np.concatenate([places[at] for at in range(len(ordered))])
    token_ids = np.concatenate([np.asarray(row.token_ids, dtype=np.int64) for row in ordered])
    positions = np.concatenate(
        [np.arange(row.position, row.position + n) for row, n in zip(ordered, counts, strict=True)]
    )
    numbers = send(np.concatenate([token_ids, positions, lasts]), model.device)  # one copy for a step
    sent_ids, sent_positions, keep = torch.split(numbers, [len(token_ids), len(positions), len(lasts)])
    logits = model.compute(sent_ids[None], sent_positions[None], plan_attention(ordered, model.backend), keep)
    return logits[0]


def prefill(
    model: LoadedModel, chain: tuple[KVSegment, ...], kv: GrowingKV, token_ids: Sequence[int], chunk: int
) -> torch.Tensor:
    """Compute `token_ids` behind `chain` and `kv`, `chunk` tokens at a time. Mutates `kv`.

    Returns:
        float32 logits after the last token, [vocabulary].
    """
    logits = torch.empty(0)
    for start in range(0, len(token_ids), chunk):
        logits = forward(model, [Row(chain, kv, token_ids[start : start + chunk])])[0]
    return logits.float()
