"""Which models the engine computes exactly. Everything else is refused, by the name of what is missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import ModelUnsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PretrainedConfig

ROPE_EXACT = {
    "default",
    "linear",
    "llama3",
    "yarn",
}  # frequencies that do not depend on the sequence's length

ROPE_BY_LENGTH = {"dynamic", "longrope"}

LAYER_FEATURES = {
    "sliding_attention": "sliding-window attention",
    "chunked_attention": "chunked attention",
    "linear_attention": "recurrent layers (linear attention)",
    "mamba": "recurrent layers (state space)",
    "conv": "recurrent layers (convolution)",
    "recurrent": "recurrent layers",
    "hybrid": "recurrent layers (state space)",
    "hybrid_sliding": "sliding-window attention",
    "indexed_attention": "sparse attention",
    "minimax_m3_sparse": "sparse attention",
    "compressed_sparse_attention": "compressed attention",
    "heavily_compressed_attention": "compressed attention",
    "mlp": "layers without attention",
    "moe": "layers without attention",
}

MODEL_FEATURES = {  # what no field of the configuration tells
    "bloom": "ALiBi positions",
    "blt": "a hierarchy of models over bytes",
    "diffllama": "differential attention",
    "doge": "a learned attention mask",
    "gpt_oss": "attention sinks",
    "hrm_text": "several passes over its layers",
    "jetmoe": "a mixture of attention heads",
    "mpt": "ALiBi positions",
    "rwkv": "recurrent layers (time mixing)",
    "xlstm": "recurrent layers (xLSTM)",
}


def check_supported(config: PretrainedConfig) -> None:
    """Accept causal models whose every layer is full softmax attention with rotary positions fixed in advance.

    Raises:
        ModelUnsupported: naming the feature.
    """
    if missing := missing_features(config):
        raise ModelUnsupported(
            f"{config.model_type} uses {', '.join(missing)}, which the engine does not compute exactly",
            hint="choose a model with full causal attention in every layer, e.g. Llama, Qwen3, OLMo-2 or Granite",
        )


def missing_features(config: PretrainedConfig) -> list[str]:
    """Names of what `config` asks for and the engine lacks; empty for a supported model."""
    missing: list[str] = []
    if getattr(config, "is_encoder_decoder", False):
        missing.append("an encoder")
    text = config.get_text_config(decoder=True)
    missing += _of_layers(text)
    if getattr(text, "is_heterogeneous", False):  # it has no sizes to read
        missing.append("layers of different sizes")
    else:
        missing += [*_of_attention(text), *_of_positions(text)]
    if text is not config:
        missing.append("more inputs than text")
    if not missing and not _is_causal(config):
        missing.append("an architecture that is no causal language model")
    if not missing and not _uses_the_interface(config):
        missing.append("attention outside transformers' attention interface")
    return list(dict.fromkeys(missing))


def _of_layers(config: PretrainedConfig) -> Iterator[str]:
    types = set(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())
    for kind in sorted(types - {"full_attention", "attention"}):
        yield LAYER_FEATURES.get(kind, f"{kind} layers")
    recurrent = ("ssm_state_size", "state_size", "mamba_d_state", "time_mix_extra_dim")
    if any(getattr(config, name, None) for name in recurrent):
        yield "recurrent layers (state space)"
    if config.model_type in MODEL_FEATURES:
        yield MODEL_FEATURES[config.model_type]


def _of_attention(config: PretrainedConfig) -> Iterator[str]:
    def get(name: str) -> Any:
        return getattr(config, name, None)

    window = get("sliding_window")
    windowed = window is not None and window < (get("max_position_embeddings") or 0)
    if windowed and not get("layer_types") and get("use_sliding_window") is not False:
        yield f"sliding-window attention ({window} tokens)"
    if get("kv_lora_rank"):
        yield "multi-head latent attention"
    if get("attention_chunk_size"):
        yield "chunked attention"
    if get("attn_logit_softcapping"):
        yield "attention logit soft-capping"
    if get("attention_sinks"):
        yield "attention sinks"
    if get("num_kv_shared_layers"):
        yield "KV that layers share"
    if get("use_bidirectional_attention"):
        yield "attention to later tokens"
    heads = get("head_dim"), get("v_head_dim")
    if not get("kv_lora_rank") and all(isinstance(size, int) for size in heads) and heads[0] != heads[1]:
        yield "values of another size than keys"


def _of_positions(config: PretrainedConfig) -> Iterator[str]:
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", None) == "alibi":
        yield "ALiBi positions"
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict) or not rope:
        ours = getattr(config, "rotary_dim", None) or config.model_type == "roformer"
        yield "rotary positions of its own code" if ours else "positions that are not rotary"
        return
    tables = [t for t in rope.values() if isinstance(t, dict)] or [rope]  # one per kind of layer, or one for all
    for kind in sorted({str(t.get("rope_type", "default")) for t in tables} - ROPE_EXACT):
        longer = ", whose angles change with the sequence's length" if kind in ROPE_BY_LENGTH else ""
        yield f"{kind} rotary scaling{longer}"


def _is_causal(config: PretrainedConfig) -> bool:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


def _uses_the_interface(config: PretrainedConfig) -> bool:
    """Whether the family's code calls the attention that its configuration names. Its text tells; importing is slow."""
    name = type(config).__module__.replace(".configuration_", ".modeling_")
    spec = find_spec(name)
    return spec is None or spec.origin is None or "ALL_ATTENTION_FUNCTIONS" in Path(spec.origin).read_text()
