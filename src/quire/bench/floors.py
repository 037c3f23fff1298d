"""What no program can go below: bytes that must be moved, operations that must be done.

Decoding one token reads every weight once and the whole KV once:

    seconds >= (weight bytes + tokens x bytes per token) / memory rate

A prefill of n tokens multiplies every token with every weight and every query with the keys and values before it:

    operations = 2 x weights x n  +  4 x layers x heads x head_dim x n (n + 1) / 2

so it grows with n and then with n squared, while restoring it costs the bytes of its KV, once. The counts are those of
dense models; a mixture of experts does less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.bench.machine import Machine
    from quire.model import LoadedModel


def weight_bytes(model: LoadedModel) -> int:
    """Bytes of the weights that one pass reads: all but an input embedding that is not also the output's."""
    inputs, outputs = model.hf.get_input_embeddings(), model.hf.get_output_embeddings()
    total = sum(p.nbytes for p in model.hf.parameters())
    tied = outputs is not None and outputs.weight is inputs.weight
    return int(total if tied else total - inputs.weight.nbytes)


def decode_floor(model: LoadedModel, tokens: int, machine: Machine) -> float:
    """Seconds per token behind `tokens` of context, were memory the only limit."""
    return (weight_bytes(model) + tokens * model.geometry.bytes_per_token) / machine.copy_rate


def prefill_operations(model: LoadedModel, tokens: int) -> int:
    """Floating-point operations of a prefill of `tokens` that wants the logits of the last one only."""
    config = model.hf.config
    embedding = model.hf.get_input_embeddings().weight
    inner = sum(p.numel() for p in model.hf.base_model.parameters()) - embedding.numel()
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * model.geometry.head_dim
    return int(2 * inner * tokens + attention * tokens * (tokens + 1) // 2 + 2 * embedding.numel())


def prefill_floor(model: LoadedModel, tokens: int, machine: Machine) -> float:
    """Seconds of a prefill of `tokens`, were it nothing but matrix products at full speed."""
    return prefill_operations(model, tokens) / machine.product_rate
