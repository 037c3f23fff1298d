"""Transformers' own way to the same answers, on the same weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import KVSegment


class TokenClock:
    """When each new token came: transformers' streamer interface (`put`, `end`), which is given the prompt first.

    `times`: by `time.perf_counter`, one per token of `token_ids`.
    """

    def __init__(self, prompt: int) -> None:
        """`prompt`: tokens of the prompt, which do not count."""
        self.times: list[float] = []
        self.token_ids: list[int] = []
        self._skip = prompt

    def put(self, value: torch.Tensor) -> None:
        given = value.flatten().tolist()
        new = given[self._skip :]
        self._skip = max(self._skip - len(given), 0)
        self.times += [time.perf_counter()] * len(new)
        self.token_ids += new

    def end(self) -> None:
        """Nothing is held back."""


def prefill_logits(hf: Any, token_ids: Sequence[int]) -> torch.Tensor:
    """One plain forward pass over `token_ids` that keeps its KV. Logits after the last one, [vocabulary]."""
    prompt = torch.tensor([list(token_ids)], device=hf.device)
    logits: torch.Tensor = hf(input_ids=prompt, use_cache=True, logits_to_keep=1).logits[0, -1]
    return logits


def filled_dynamic_cache(config: Any, chain: Sequence[KVSegment]) -> Any:
    """Transformers' DynamicCache holding a copy of the KV of `chain`, as after a prefill of its tokens.

    `config`: the model's, as transformers reads it.
    """
    from transformers import DynamicCache

    past = DynamicCache(config=config)
    for layer in range(len(chain[0].keys)):
        for segment in chain:
            if segment.gate is not None:
                segment.gate.wait(layer)
        keys = torch.cat([segment.keys[layer] for segment in chain], dim=1)
        values = torch.cat([segment.values[layer] for segment in chain], dim=1)
        past.update(keys[None], values[None], layer)
    return past
