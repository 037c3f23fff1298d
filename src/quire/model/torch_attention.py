"""Attention plans in PyTorch operations: where there is no kernel of our own, and on other devices than the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quire.model.attention import AttentionPlan, SharedSpan, SuffixSpan

FLASH_DTYPES = {torch.bfloat16, torch.float16}  # of PyTorch's flash attention on a GPU, which groups heads as we do


class TorchAttention(AttentionPlan):
    """One operation per shared segment, one or two per suffix, and a merge."""

    def __init__(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> None:
        super().__init__(shared, suffixes)
        self.parts = self.depth + (2 if any(s.before and s.end - s.start > 1 for s in suffixes) else 1)
        self._outputs: torch.Tensor | None = None
        self._weights: torch.Tensor | None = None

    def run(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        for span in self.suffixes:
            until = span.before + span.end - span.start
            span.kv.keys[layer][:, span.before : until] = k[:, span.start : span.end]
            span.kv.values[layer][:, span.before : until] = v[:, span.start : span.end]
        if self.parts == 1 and len(self.suffixes) == 1 and not self.suffixes[0].before:
            output, _weight = partial_attention(q, k, v, scale=scale, causal=True)
            return output.transpose(0, 1)
        outputs, weights = self._scratch(q)
        for part, start, end, output, weight in _partials(self, layer, q, k, v, scale):
            outputs[part, :, start:end] = output
            weights[part, :, start:end] = weight
        return merge(outputs, weights).to(q.dtype).transpose(0, 1)

    def _scratch(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Partial outputs [parts, heads, tokens, head_dim] and log-sum-exps [parts, heads, tokens], float32.

        Every layer fills the same places, so a place that stays empty keeps weight zero (log-sum-exp of -inf).
        """
        if self._outputs is None or self._weights is None:
            self._outputs = q.new_zeros((self.parts, *q.shape), dtype=torch.float32)
            self._weights = q.new_full((self.parts, *q.shape[:2]), float("-inf"), dtype=torch.float32)
        return self._outputs, self._weights


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
    on_cpu = query.device.type == "cpu"
    if not causal and (tokens > 1 or not on_cpu):  # the heads of a group read the same keys: rows of one product
        query = query.reshape(kv_heads, -1, head_dim)  # (on a CPU a single row gains more from a core for every head)
    if on_cpu:
        output, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[None], key[None], value[None], 0.0, causal, attn_mask=None, scale=scale
        )
        output, weight = output[0], weight[0]
    elif query.device.type == "cuda" and query.dtype in FLASH_DTYPES and head_dim % 8 == 0 and head_dim <= 256:
        output, weight, *_rest = torch.ops.aten._scaled_dot_product_flash_attention(
            query[None], key[None], value[None], 0.0, causal, False, scale=scale
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


def merge(outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Join partial attentions exactly: [parts, heads, tokens, head_dim] by [parts, heads, tokens], in float32."""
    return (outputs * torch.softmax(weights, dim=0)[..., None]).sum(dim=0)


def _partials(
    plan: TorchAttention, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
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
