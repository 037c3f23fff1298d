"""Attention over shared segments and private suffixes, merged exactly.

Softmax attention over a concatenation of key ranges equals the average of the attentions over each range, weighted by
the softmax of their log-sum-exps (Hydragen, arXiv 2402.05099; FlashInfer's cascade, arXiv 2501.01005). So the KV of a
document is read where it lies, once for all the tokens of a batch that share it, and never joined to a suffix.

Cost of one layer of one step: one read of each distinct segment, 2 x kv_heads x tokens x head_dim x itemsize bytes,
whatever the number of requests; plus each request's own suffix.

The tokens of all requests stand in one row, [1, heads, tokens, head_dim], requests with a common chain side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from quire.core import KVSegment
from quire.errors import ModelUnsupported
from quire.model.kv import GrowingKV

ATTENTION_NAME = "quire_shared_segments"
ALTERING = {  # arguments of transformers' attention functions that change what is computed
    "s_aux": "attention sinks",
    "later_tokens": "attention to later tokens",
    "softcap": "logit soft-capping",
    "position_bias": "a bias by position",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}


# The plan of the pass that this thread computes. It is no argument: the code of several families drops unknown ones.
CURRENT_PLAN: ContextVar[AttentionPlan] = ContextVar("attention_plan")


@dataclass(frozen=True, slots=True)
class SharedSpan:
    """Tokens `start:end` of the batch all attend to the whole of `segment`. `depth`: its place in their chains."""

    segment: KVSegment
    start: int
    end: int
    depth: int


@dataclass(frozen=True, slots=True)
class SuffixSpan:
    """Tokens `start:end` of the batch are one request's newest; `before` tokens of it are in `kv` already."""

    kv: GrowingKV
    start: int
    end: int
    before: int


class AttentionPlan(ABC):
    """Who attends to what in one forward pass; made once, used by every layer."""

    def __init__(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> None:
        self.shared = shared
        self.suffixes = suffixes
        self.geometry = suffixes[0].kv.geometry
        self.reach = max(_reach(span, shared) for span in suffixes)
        self.depth = 1 + max((span.depth for span in shared), default=-1)

    def wait_for(self, layer: int) -> None:
        """Let `run` read no segment's `layer` before its bytes are where the model computes."""
        for span in self.shared:
            if span.segment.gate is not None:
                span.segment.gate.wait(layer)

    @abstractmethod
    def run(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Store the new tokens' KV in their suffixes and attend. Mutates the suffixes' memory.

        Args:
            q: [heads, tokens, head_dim]; k, v: [kv_heads, tokens, head_dim], rotary positions applied.

        Returns:
            [tokens, heads, head_dim] in q's dtype.
        """


def _reach(suffix: SuffixSpan, shared: list[SharedSpan]) -> int:
    """How many keys the last token of `suffix` sees."""
    chain = (s.segment.token_count for s in shared if s.start <= suffix.start < s.end)
    return sum(chain) + suffix.before + suffix.end - suffix.start


def check_asked(
    sides: dict[str, tuple[int, int]],
    mask: torch.Tensor | None,
    asked: dict[str, Any],
) -> AttentionPlan:
    """Fail closed: the current plan, unless the model asks for an attention that it does not describe.

    Args:
        sides: heads and their size by "keys" and "values".
        asked: what else the model wants of its attention, by the names that transformers uses.

    Raises:
        ModelUnsupported.
    """
    plan = CURRENT_PLAN.get()
    missing = [feature for name, feature in ALTERING.items() if asked.get(name) is not None]
    if mask is not None:
        missing.append("a mask of its own")
    window = asked.get("sliding_window")
    if window is not None and window < plan.reach:
        missing.append(f"sliding-window attention ({window} tokens)")
    expected = (plan.geometry.kv_heads, plan.geometry.head_dim)
    missing += [
        f"{name} of another shape than its configuration says" for name, shape in sides.items() if shape != expected
    ]
    if missing:
        raise ModelUnsupported(
            f"the model's attention has {', '.join(missing)}, which the engine does not compute exactly",
            hint="choose a model with full causal attention in every layer",
        )
    return plan


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **asked: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: check that `CURRENT_PLAN` describes what the model asks for, and follow it.

    Args:
        query: [1, heads, tokens, head_dim]; key, value: [1, kv_heads, tokens, head_dim], rotary positions applied.
        asked: what else the model wants of its attention; it must be nothing that changes the result.

    Returns:
        contiguous [1, tokens, heads, head_dim] in the query's dtype, and None for the attention weights.

    Raises:
        ModelUnsupported: the model needs more than causal full attention, and its configuration did not say so.
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if not asked.get("is_causal", getattr(module, "is_causal", True)):
        asked["later_tokens"] = True
    sides = {name: (side.shape[1], side.shape[3]) for name, side in (("keys", key), ("values", value))}
    plan = check_asked(sides, attention_mask, asked)
    plan.wait_for(layer)
    return plan.run(layer, query[0], key[0], value[0], scale).contiguous()[None], None
