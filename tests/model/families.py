"""Small models with random weights, one per family that the engine promises to compute exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "phi3": {"pad_token_id": 0, "sliding_window": None},
    "olmo2": {},
    "granite": {"attention_multiplier": 0.2, "residual_multiplier": 0.5, "logits_scaling": 0.5},
}
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "dtype": "float32",
}


def save_family(family: str, directory: Path, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Path:
    """A model directory. Weights are large enough for logits that differ clearly between tokens."""
    known = AutoConfig.for_model(family)
    values = {k: v for k, v in SIZES.items() if hasattr(known, k)} | {"vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(family, **(values | FAMILIES.get(family, {}) | changes))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(config).float()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
        model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
