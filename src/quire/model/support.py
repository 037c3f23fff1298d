"""Which models the engine computes exactly. Everything else is refused, by the name of what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.errors import ModelUnsupported

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ROPE_EXACT = {
    "default",
    "linear",
    "llama3",
    "yarn",
}  # frequencies that do not depend on the sequence's length

LAYER_FEATURES = {
    "sliding_attention": "sliding-window attention",
    "chunked_attention": "chunked attention",
    "linear_attention": "recurrent layers (linear attention)",
    "mamba": "recurrent layers (state space)",
    "conv": "recurrent layers (convolution)",
}


def check_supported(config: PretrainedConfig) -> None:
    """Accept causal models whose every layer is full softmax attention with rotary positions fixed in advance.

    Raises:
        ModelUnsupported: naming the feature.
    """
    for feature in missing_features(config):
        raise ModelUnsupported(
            f"{config.model_type} uses {feature}, which the engine does not compute exactly",
            hint="choose a model with full causal attention in every layer, e.g. Llama, Qwen3, OLMo-2 or Granite",
        )


def missing_features(config: PretrainedConfig) -> list[str]:
    """Names of what `config` asks for and the engine lacks; empty for a supported model."""

    def get(name: str) -> Any:
        return getattr(config, name, None)

    missing: list[str] = []
    if get("is_encoder_decoder"):
        missing.append("an encoder")
    layer_types = set(get("layer_types") or get("layers_block_type") or ())
    missing += [LAYER_FEATURES.get(t, f"{t} layers") for t in sorted(layer_types - {"full_attention", "attention"})]
    window = get("sliding_window")
    windowed = window is not None and window < (get("max_position_embeddings") or 0)
    if windowed and not layer_types and get("use_sliding_window") is not False:
        missing.append(f"sliding-window attention ({window} tokens)")
    if get("kv_lora_rank"):
        missing.append("multi-head latent attention")
    if any(get(name) for name in ("ssm_state_size", "state_size", "mamba_d_state", "time_mix_extra_dim")):
        missing.append("recurrent layers (state space)")
    if get("attention_chunk_size"):
        missing.append("chunked attention")
    if get("attn_logit_softcapping"):
        missing.append("attention logit soft-capping")
    if get("alibi") or get("position_embedding_type") == "alibi":
        missing.append("ALiBi positions")
    if get("model_type") == "gpt_oss" or get("attention_sinks"):
        missing.append("attention sinks")
    rope = get("rope_parameters") or {}
    rope_type = rope.get("rope_type", "default") if isinstance(rope, dict) else "default"
    if rope_type not in ROPE_EXACT:
        missing.append(f"{rope_type} rotary scaling, whose angles change with the sequence's length")
    return missing
