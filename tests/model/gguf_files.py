"""A GGUF file of a small Llama, as converters write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
NORMAL, CONTROL = 1, 3


def write_gguf(
    model_dir: Path, file: Path, architecture: str = "llama", more: Callable[[gguf.GGUFWriter], object] = id
) -> Path:
    """The Llama in `model_dir`, in float32, with its tokenizer, and what `more` adds."""
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, model_dir)
    more(writer)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for number in range(config.num_hidden_layers):
        names |= {f"model.layers.{number}.{ours}": f"blk.{number}.{theirs}" for ours, theirs in LAYER.items()}
    for ours, theirs in names.items():
        tensor = weights[f"{ours}.weight"].float()
        if "q_proj" in ours:
            tensor = interleaved(tensor, config.num_attention_heads)
        if "k_proj" in ours:
            tensor = interleaved(tensor, config.num_key_value_heads)
        writer.add_tensor(f"{theirs}.weight", numpy.ascontiguousarray(tensor.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def add_tokenizer(writer: gguf.GGUFWriter, model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: int(vocabulary[token]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    controls = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    writer.add_token_types([CONTROL if token in controls else NORMAL for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head in the order in which GGUF's Llamas rotate them."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
