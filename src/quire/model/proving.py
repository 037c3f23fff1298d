"""The proof, before anything is compiled, that a model's attention is the one this package computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quire.core import KVSegment
from quire.errors import ModelUnsupported
from quire.model.forward import prefill

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from quire.model.loading import LoadedModel

CHAIN, SUFFIX, CHUNK = 8, 16, 10  # tokens
TRIES = 3
ALLOWED = {
    "float32": 1e-3,
    "float16": 0.1,
    "bfloat16": 0.25,
    "int8": 0.25,
}  # of the spread of the logits: rounding stays far below, another attention far above

FAILS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)  # code that computes something else


def check_exact(model: LoadedModel) -> None:
    """Compute a few tokens behind a chain, and all of them by transformers' own forward pass: the logits must agree.

    The configuration names the features that are known (`quire.model.support`); this finds the others. Of a mixture of
    experts one of `TRIES` texts must agree: where two experts are nearly equal, rounding chooses another one.

    Raises:
        ModelUnsupported.
    """
    rounded = model.source.weights == "int8"
    allowed = ALLOWED["int8" if rounded else model.geometry.dtype]
    difference = float("nan")
    for start in range(TRIES if _has_experts(model.source.config) else 1):
        ids = [
            7919 * (i + 1) % model.vocabulary for i in range(start * (CHAIN + SUFFIX), (start + 1) * (CHAIN + SUFFIX))
        ]
        difference = _difference(model, ids)
        if difference <= allowed:
            return
    if rounded:
        raise ModelUnsupported(
            f"rounding the weights of this {model.source.config.model_type} to int8 changes its logits by "
            f"{difference:.2g} of their spread, allowed is {allowed:g}",
            hint="set model.weights to auto",
        )
    raise ModelUnsupported(  # also for NaN
        f"{model.source.config.model_type} gives other logits behind a chain than in one piece: they differ by "
        f"{difference:.2g} of their spread, allowed is {allowed:g}",
        hint="the model depends on more than its KV; choose one with full causal attention in every layer",
    )


def _has_experts(config: PretrainedConfig) -> bool:
    numbers = config.get_text_config(decoder=True).to_dict().items()
    return any("expert" in name and isinstance(number, int) and number > 1 for name, number in numbers)


def _difference(model: LoadedModel, ids: list[int]) -> float:
    """Of the logits after `ids`, behind a chain and by transformers, as a part of their spread."""
    whole = _by_transformers(model, ids)
    try:
        head, tail = model.new_kv(), model.new_kv()
        prefill(model, (), head, ids[:CHAIN], CHAIN)
        chain = KVSegment(tuple(k[:, :CHAIN] for k in head.keys), tuple(v[:, :CHAIN] for v in head.values), 0, CHAIN)
        split = prefill(model, (chain,), tail, ids[CHAIN:], CHUNK)
    except FAILS as error:
        raise ModelUnsupported(
            f"{model.source.config.model_type} does not run with this engine's attention: {error}",
            hint="choose a model with full causal attention in every layer, e.g. Llama, Qwen3, OLMo-2 or Granite",
        ) from error
    return float((split - whole).norm() / (whole - whole.mean()).norm())


def _by_transformers(model: LoadedModel, ids: list[int]) -> torch.Tensor:
    """Float32 logits after the last of `ids`, [vocabulary]."""
    try:
        with model.reference() as hf:
            logits: torch.Tensor = hf(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
    except FAILS as error:
        raise ModelUnsupported(
            f"transformers itself does not run this {model.source.config.model_type}: {error}",
            hint="is config.json that of the model's authors?",
        ) from error
    return logits.float()
