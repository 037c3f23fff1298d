"""Attention over shared segments and private suffixes, merged exactly.

Softmax attention over a concatenation of key ranges equals the average of the attentions over each range, weighted by
the softmax of their log-sum-exps (Hydragen, arXiv 2402.05099; FlashInfer's cascade, arXiv 2501.01005). So the KV of a
document is read where it lies, once for all the tokens of a batch that share it, and never joined to a suffix.

Cost of one layer of one step: one read of each distinct segment, 2 x kv_heads x tokens x head_dim x itemsize bytes,
whatever the number of requests; plus each request's own suffix.

The tokens of all requests stand in one row, [1, heads, tokens, head_dim], requests with a common chain side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from quire.core import KVSegment
from quire.errors import ModelUnsupported
from quire.model.kv import GrowingKV

ATTENTION_NAME = "quire_shared_segments"
ALTERING = {  # arguments of transformers' attention functions that change what is computed
    "s_aux": "attention sinks",
    "softcap": "logit soft-capping",
    "position_bias": "a bias by position",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}


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


class AttentionPlan:
    """Who attends to what in one forward pass; made once, used by every layer."""

    def __init__(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> None:
        self.shared = shared
        self.suffixes = suffixes
        self.reach = max(_reach(span, shared) for span in suffixes)
        self.depth = 1 + max((span.depth for span in shared), default=-1)
        self.parts = self.depth + (2 if any(s.before and s.end - s.start > 1 for s in suffixes) else 1)
        self._outputs: torch.Tensor | None = None
        self._weights: torch.Tensor | None = None

    def scratch(self, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Partial outputs [parts, heads, tokens, head_dim] and log-sum-exps [parts, heads, tokens], float32.

        Every layer fills the same places, so a place that stays empty keeps weight zero (log-sum-exp of -inf).
        """
        if self._outputs is None or self._weights is None:
            _, heads, tokens, head_dim = query.shape
            self._outputs = query.new_zeros((self.parts, heads, tokens, head_dim), dtype=torch.float32)
            self._weights = query.new_full((self.parts, heads, tokens), float("-inf"), dtype=torch.float32)
        return self._outputs, self._weights


def _reach(suffix: SuffixSpan, shared: list[SharedSpan]) -> int:
    """How many keys the last token of `suffix` sees."""
    chain = (s.segment.token_count for s in shared if s.start <= suffix.start < s.end)
    return sum(chain) + suffix.before + suffix.end - suffix.start


def partial_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float, causal: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over one range of keys, and the log-sum-exp that says how much it weighs.

    Args:
        query: [heads, tokens, head_dim].
        key, value: [kv_heads, keys, head_dim]; heads is a multiple of kv_heads.
        causal: the last `tokens` keys are the queries' own; query i sees keys 0..i. Requires keys == tokens.

    Returns:
        output [heads, tokens, head_dim] in the query's dtype, log-sum-exp [heads, tokens] in float32.
    """
    heads, tokens, head_dim = query.shape
    kv_heads = key.shape[0]
    if not causal and tokens > 1:  # the query heads of a group read the same keys: make them rows of one product
        query = query.reshape(kv_heads, -1, head_dim)  # (a single row gains more from a core for every head)
    if query.device.type == "cpu":
        output, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[None], key[None], value[None], 0.0, causal, attn_mask=None, scale=scale
        )
        output, weight = output[0], weight[0]
    else:
        output, weight = _materialized(query, key, value, scale, causal)
    return output.reshape(heads, tokens, head_dim), weight.reshape(heads, tokens)


def _materialized(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by plain products in float32, for devices without a kernel that returns the log-sum-exp."""
    groups = query.shape[0] // key.shape[0]
    key, value = (t.repeat_interleave(groups, 0) if groups > 1 else t for t in (key, value))
    scores = torch.matmul(query.float(), key.float().transpose(1, 2)) * scale
    if causal:
        tokens = query.shape[1]
        ahead = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(ahead, float("-inf"))
    weight = torch.logsumexp(scores, -1)
    output = torch.matmul(torch.exp(scores - weight[..., None]), value.float())
    return output.to(query.dtype), weight


def _checked(
    plan: AttentionPlan | None,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    asked: dict[str, Any],
) -> AttentionPlan:
    """Fail closed: the plan, unless the model asks for an attention that it does not describe."""
    missing = [feature for name, feature in ALTERING.items() if asked.get(name) is not None]
    if mask is not None:
        missing.append("a mask of its own")
    if plan is None:
        raise ModelUnsupported(
            "the model's code does not hand arguments through to its attention", hint="choose another model"
        )
    window = asked.get("sliding_window")
    if window is not None and window < plan.reach:
        missing.append(f"sliding-window attention ({window} tokens)")
    geometry = plan.suffixes[0].kv.geometry
    expected = (geometry.kv_heads, geometry.head_dim)
    for name, tensor in (("keys", key), ("values", value)):
        if (tensor.shape[0], tensor.shape[2]) != expected:
            missing.append(f"{name} of another shape than its configuration says")
    if missing:
        raise ModelUnsupported(
            f"the model's attention has {', '.join(missing)}, which the engine does not compute exactly",
            hint="choose a model with full causal attention in every layer",
        )
    return plan


def merge(outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Join partial attentions exactly: [parts, heads, tokens, head_dim] by [parts, heads, tokens], in float32."""
    return (outputs * torch.softmax(weights, dim=0)[..., None]).sum(dim=0)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    attention_plan: AttentionPlan | None = None,
    scaling: float | None = None,
    **asked: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: store the new tokens' KV in their suffixes, attend, merge.

    Args:
        query: [1, heads, tokens, head_dim]; key, value: [1, kv_heads, tokens, head_dim], rotary positions applied.
        attention_plan: passed by `forward`.
        asked: what else the model wants of its attention; it must be nothing that changes the result.

    Returns:
        [1, tokens, heads, head_dim] in the query's dtype, and None for the attention weights.

    Raises:
        ModelUnsupported: the model needs more than causal full attention, and its configuration did not say so.
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q, k, v = query[0], key[0], value[0]
    plan = _checked(attention_plan, k, v, attention_mask, asked)
    for span in plan.suffixes:
        until = span.before + span.end - span.start
        span.kv.keys[layer][:, span.before : until] = k[:, span.start : span.end]
        span.kv.values[layer][:, span.before : until] = v[:, span.start : span.end]
    if plan.parts == 1 and len(plan.suffixes) == 1 and not plan.suffixes[0].before:
        output, _weight = partial_attention(q, k, v, scale=scale, causal=True)
        return output.transpose(0, 1)[None], None
    outputs, weights = plan.scratch(query)
    for part, start, end, output, weight in _partials(plan, layer, q, k, v, scale):
        outputs[part, :, start:end] = output
        weights[part, :, start:end] = weight
    return merge(outputs, weights).to(query.dtype).transpose(0, 1)[None], None


def _partials(
    plan: AttentionPlan, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
) -> Iterator[tuple[int, int, int, torch.Tensor, torch.Tensor]]:
    """Every partial attention of a layer, with its part and the tokens `start:end` it is for."""
    for shared in plan.shared:
        here, seg = slice(shared.start, shared.end), shared.segment
        partial = partial_attention(q[:, here], seg.keys[layer], seg.values[layer], scale=scale)
        yield shared.depth, shared.start, shared.end, *partial
    for span in plan.suffixes:
        here, until = slice(span.start, span.end), span.before + span.end - span.start
        keys, values = span.kv.keys[layer], span.kv.values[layer]
        if span.end - span.start == 1:  # its own key closes the range: nothing to mask
            partial = partial_attention(q[:, here], keys[:, :until], values[:, :until], scale=scale)
            yield plan.depth, span.start, span.end, *partial
            continue
        partial = partial_attention(q[:, here], k[:, here], v[:, here], scale=scale, causal=True)
        yield plan.depth, span.start, span.end, *partial
        if span.before:
            partial = partial_attention(q[:, here], keys[:, : span.before], values[:, : span.before], scale=scale)
            yield plan.depth + 1, span.start, span.end, *partial
