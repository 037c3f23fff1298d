"""What no program can go below: bytes that must be moved, operations that must be done.

Decoding one token reads every weight once and the whole KV once:

    seconds >= (weight bytes + tokens x bytes per token) / memory rate

A prefill of n tokens multiplies every token with every weight and every query with the keys and values before it:

    operations = 2 x weights x n  +  4 x layers x heads x head_dim x n (n + 1) / 2

so it grows with n and then with n squared, while restoring it costs the bytes of its KV, once. The counts are those of
dense models; a mixture of experts does less.

A step of n requests on one document reads weights and document once for all of them and each suffix for itself, and
does the operations of n tokens; whichever takes longer is its floor:

    seconds >= (weight bytes + (document + n x suffix) x bytes per token) / read rate
    seconds >= n x (2 x weights + 4 x layers x heads x head_dim x (document + suffix)) / matrix rate
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.bench.machine import Machine
    from quire.model import LoadedModel


def weight_bytes(model: LoadedModel) -> int:
    """Bytes of the weights that one pass reads: all but an input embedding that is not also the output's."""
    inputs, outputs = model.plain.get_input_embeddings(), model.plain.get_output_embeddings()
    total = sum(p.nbytes for p in model.plain.parameters())
    tied = outputs is not None and outputs.weight is inputs.weight
    return int(total if tied else total - inputs.weight.nbytes)


def decode_floor(model: LoadedModel, tokens: int, machine: Machine) -> float:
    """Seconds per token behind `tokens` of context, were memory the only limit."""
    return (weight_bytes(model) + tokens * model.geometry.bytes_per_token) / machine.copy_rate


def prefill_operations(model: LoadedModel, tokens: int, behind: int = 0) -> int:
    """Floating-point operations of a prefill of `tokens` that wants the logits of the last one only.

    `behind`: tokens before them whose KV is there already.
    """
    pairs = behind * tokens + tokens * (tokens + 1) // 2  # of a query and a key before it
    head = int(2 * model.plain.get_input_embeddings().weight.numel())
    return 2 * _inner_weights(model) * tokens + _attention_operations(model) * pairs + head


def prefill_floor(model: LoadedModel, tokens: int, machine: Machine) -> float:
    """Seconds of a prefill of `tokens`, were it nothing but matrix products at full speed."""
    return prefill_operations(model, tokens) / machine.product_rate


def step_operations(model: LoadedModel, requests: int, context: int) -> int:
    """Floating-point operations of one token for each of `requests`, each behind `context` tokens."""
    head = int(model.plain.get_input_embeddings().weight.numel())
    return requests * (2 * (_inner_weights(model) + head) + _attention_operations(model) * context)


def step_floor(model: LoadedModel, requests: int, document: int, suffix: float, machine: Machine) -> float:
    """Seconds of one step of `requests` that share `document` tokens and have `suffix` tokens of their own."""
    moved = weight_bytes(model) + (document + requests * suffix) * model.geometry.bytes_per_token
    operations = step_operations(model, requests, round(document + suffix))
    return max(moved / machine.read_rate, operations / matrix_rate(machine))


def suffix_floor(model: LoadedModel, requests: int, document: int, suffix: float, machine: Machine) -> float:
    """Seconds of computing the suffixes of `requests`, each of `suffix` tokens behind `document` tokens."""
    moved = weight_bytes(model) + document * model.geometry.bytes_per_token
    operations = requests * prefill_operations(model, round(suffix), document)
    return max(moved / machine.read_rate, operations / matrix_rate(machine))


def matrix_rate(machine: Machine) -> float:
    """The better of the model's dtype and float32, in operations per second."""
    return max(machine.product_rate, machine.float32_rate)


def _inner_weights(model: LoadedModel) -> int:
    embedding = model.plain.get_input_embeddings().weight
    return int(sum(p.numel() for p in model.plain.base_model.parameters()) - embedding.numel())


def _attention_operations(model: LoadedModel) -> int:
    config = model.plain.config
    return int(4 * config.num_hidden_layers * config.num_attention_heads * model.geometry.head_dim)
