"""Transformers' own way to the same answers, on the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import KVSegment
    from quire.model import LoadedModel


def prefill_logits(hf: Any, token_ids: Sequence[int]) -> torch.Tensor:
    """One plain forward pass over `token_ids` that keeps its KV. Logits after the last one, [vocabulary]."""
    prompt = torch.tensor([list(token_ids)], device=hf.device)
    logits: torch.Tensor = hf(input_ids=prompt, use_cache=True, logits_to_keep=1).logits[0, -1]
    return logits


def filled_dynamic_cache(model: LoadedModel, chain: Sequence[KVSegment]) -> Any:
    """Transformers' DynamicCache holding a copy of the KV of `chain`, as after a prefill of its tokens."""
    from transformers import DynamicCache

    past = DynamicCache(config=model.hf.config)
    for layer in range(model.geometry.layers):
        keys = torch.cat([segment.keys[layer] for segment in chain], dim=1)
        values = torch.cat([segment.values[layer] for segment in chain], dim=1)
        past.update(keys[None], values[None], layer)
    return past
