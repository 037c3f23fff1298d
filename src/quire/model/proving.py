"""The proof, before anything is compiled, that a model's attention is the one this package computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quire.core import KVSegment
from quire.errors import ModelUnsupported
from quire.model.forward import prefill

if TYPE_CHECKING:
    from quire.model.loading import LoadedModel

CHAIN, SUFFIX, CHUNK = 8, 16, 10  # tokens
ALLOWED = {
    "float32": 1e-3,
    "float16": 0.1,
    "bfloat16": 0.25,
    "int8": 0.25,
}  # of the spread of the logits: rounding stays far below, another attention far above


def check_exact(model: LoadedModel) -> None:
    """Compute a few tokens behind a chain, and all of them by transformers' own forward pass: the logits must agree.

    The configuration names the features that are known (`quire.model.support`); this finds the others.

    Raises:
        ModelUnsupported.
    """
    ids = [7919 * (i + 1) % model.vocabulary for i in range(CHAIN + SUFFIX)]
    try:
        head, tail = model.new_kv(), model.new_kv()
        prefill(model, (), head, ids[:CHAIN], CHAIN)
        chain = KVSegment(tuple(k[:, :CHAIN] for k in head.keys), tuple(v[:, :CHAIN] for v in head.values), 0, CHAIN)
        split = prefill(model, (chain,), tail, ids[CHAIN:], CHUNK)
        with model.reference() as hf:
            whole = hf(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1].float()
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise ModelUnsupported(
            f"{model.source.config.model_type} does not run with this engine's attention: {error}",
            hint="choose a model with full causal attention in every layer, e.g. Llama, Qwen3, OLMo-2 or Granite",
        ) from error
    difference = float((split - whole).norm() / (whole - whole.mean()).norm())
    rounded = model.source.weights == "int8"
    allowed = ALLOWED["int8" if rounded else model.geometry.dtype]
    if rounded and not difference <= allowed:
        raise ModelUnsupported(
            f"rounding the weights of this {model.source.config.model_type} to int8 changes its logits by "
            f"{difference:.2g} of their spread, allowed is {allowed:g}",
            hint="set model.weights to auto",
        )
    if not difference <= allowed:  # also refuses NaN
        raise ModelUnsupported(
            f"{model.source.config.model_type} gives other logits behind a chain than in one piece: they differ by "
            f"{difference:.2g} of their spread, allowed is {allowed:g}",
            hint="the model depends on more than its KV; choose one with full causal attention in every layer",
        )
