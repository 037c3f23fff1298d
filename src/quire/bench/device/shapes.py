"""Models of a real one's shape with random weights: what they compute costs the same, and needs no download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from quire.bench.device.options import DeviceOptions, Shape
from quire.model import LoadedModel, ModelSource
from quire.model.backends import choose_backend
from quire.model.devices import find_device

if TYPE_CHECKING:
    from pathlib import Path

QWEN3_4B: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 1 << 18,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "tie_word_embeddings": True,
}
TINY: dict[str, Any] = QWEN3_4B | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
}
SHAPES: dict[Shape, dict[str, Any]] = {"qwen3-4b": QWEN3_4B, "tiny": TINY}


def random_model(options: DeviceOptions, work: Path) -> LoadedModel:
    """A Qwen3 of the shape, in bfloat16, with weights drawn on the device. `work`: for the files that identify it.

    Raises:
        DeviceUnavailable.
    """
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models
    from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

    from quire.model.attention import ATTENTION_NAME, attend

    device = find_device(options.device)
    AttentionInterface.register(ATTENTION_NAME, attend)
    config = Qwen3Config(**SHAPES[options.shape], dtype="bfloat16", eos_token_id=0, bos_token_id=0)
    config.save_pretrained(work)
    words = Tokenizer(models.WordLevel({"<end>": 0, "<unknown>": 1}, unk_token="<unknown>"))  # noqa: S106
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unknown>").save_pretrained(work)  # noqa: S106
    save_file({"seed": torch.zeros(1)}, work / "model.safetensors")  # the weights are not on disk: what stands for them
    source = ModelSource(f"{options.shape}, random weights", work, "random", "bfloat16")
    torch.manual_seed(0)
    with torch.device(device):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    return LoadedModel(source, plain.eval().requires_grad_(False), choose_backend("auto", device, "bfloat16"))
