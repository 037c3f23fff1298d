"""What the engine does not compute exactly is refused by the name of the feature, from the configuration alone."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from quire.errors import ModelError, ModelUnreadable, ModelUnsupported, QuireError
from quire.model import check_exact, find_model
from quire.model.support import check_supported, missing_features

from .families import FAMILIES, save_family
from .running import compile_chain

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("mistral", {"sliding_window": 4096, "max_position_embeddings": 32768}, "sliding-window attention (4096 tokens)"),
    ("phi3", {"sliding_window": 2047, "max_position_embeddings": 4096}, "sliding-window attention (2047 tokens)"),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 64}, "sliding-window attention"),
    ("gemma2", {}, "sliding-window attention"),
    ("gemma3_text", {}, "sliding-window attention"),
    ("gemma3", {}, "sliding-window attention"),
    ("gpt_oss", {"layer_types": ["full_attention"] * 36}, "attention sinks"),
    ("deepseek_v3", {}, "multi-head latent attention"),
    ("mamba", {}, "recurrent layers (state space)"),
    ("qwen3_next", {}, "recurrent layers (linear attention)"),
    ("rwkv", {}, "recurrent layers"),
    ("recurrent_gemma", {}, "recurrent layers"),
    ("lfm2", {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}, "recurrent layers (convolution)"),
    ("llama4_text", {}, "chunked attention"),
    ("bloom", {}, "ALiBi positions"),
    ("mpt", {}, "ALiBi positions"),
    ("falcon", {"alibi": True}, "ALiBi positions"),
    ("falcon", {}, "attention outside transformers' attention interface"),
    ("gpt_neox_japanese", {}, "attention outside transformers' attention interface"),
    ("gptj", {}, "rotary positions of its own code"),
    ("gemma3n_text", {}, "KV that layers share"),
    ("gemma4_text", {}, "layers of different sizes"),
    ("mimo_v2_flash", {}, "values of another size than keys"),
    ("minimax_m3_vl_text", {"layer_types": ["minimax_m3_sparse"] * 60}, "sparse attention"),
    ("doge", {}, "a learned attention mask"),
    ("blt", {}, "a hierarchy of models over bytes"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "attention to later tokens"),
    ("t5", {}, "an encoder"),
    ("bert", {}, "positions that are not rotary"),
    ("gpt2", {}, "positions that are not rotary"),
    ("diffllama", {}, "differential attention"),
    ("llava", {}, "more inputs than text"),
    ("esm", {"position_embedding_type": "rotary", "vocab_size": 33}, "positions that are not rotary"),
    ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic rotary"),
    (
        "phi3",
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0] * 48,
                "long_factor": [4.0] * 48,
                "original_max_position_embeddings": 4096,
                "partial_rotary_factor": 1.0,
            },
            "sliding_window": None,
        },
        "longrope rotary",
    ),
]


@pytest.mark.parametrize(("kind", "changes", "feature"), REFUSED, ids=[f"{k}-{f}" for k, _, f in REFUSED])
def test_a_feature_is_named(tmp_path: Path, kind: str, changes: dict[str, Any], feature: str) -> None:
    AutoConfig.for_model(kind, **changes).save_pretrained(tmp_path)
    with pytest.raises(ModelUnsupported) as refused:
        find_model(str(tmp_path), tmp_path)
    assert feature in str(refused.value)
    assert kind.removesuffix("_text") in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("kind", list(FAMILIES))
def test_promised_families_are_accepted(kind: str) -> None:
    changes = {"sliding_window": None} if kind in {"mistral", "phi3"} else {}
    check_supported(AutoConfig.for_model(kind, **changes))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 256},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "rope_theta": 1e4,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_fixed_rotary_scalings_are_exact(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, rope: dict[str, Any]
) -> None:
    directory = save_family("llama", tmp_path, tiny_tokenizer, rope_parameters=rope)
    check_exact(find_model(str(directory), tmp_path).load(threads=1))


def test_every_architecture_of_transformers_is_accepted_or_refused_by_name() -> None:
    """None of them gets through for want of a field, or ends in an error of the library."""
    accepted = []
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            config = AutoConfig.for_model(kind)
        except Exception:  # some have no default configuration
            continue
        features = missing_features(config)
        assert all(isinstance(f, str) and f for f in features)
        if not features:
            accepted.append(kind)
    assert set(FAMILIES) - {"mistral"} <= set(accepted)


def test_a_feature_no_configuration_tells_is_found_before_compiling(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Sinks: parameters that the attention function is handed."""
    directory = save_family("granite_swa", tmp_path, tiny_tokenizer, layer_types=["full_attention"] * 2)
    with pytest.raises(ModelUnsupported, match="the model's attention has attention sinks"):
        check_exact(find_model(str(directory), tmp_path).load(threads=1))


def test_a_configuration_that_transformers_cannot_build_is_not_called_a_broken_download(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    directory = save_family("llama", tmp_path, tiny_tokenizer)
    settings = json.loads((directory / "config.json").read_text()) | {"hidden_act": "nothing"}
    (directory / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelUnreadable, match="transformers cannot build the llama") as refused:
        find_model(str(directory), tmp_path).load(threads=1)
    assert "config.json" in refused.value.hint


def test_what_transformers_itself_does_not_run_is_not_blamed_on_the_engine(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    sizes = {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": None}, "max_seq_len": 512}
    experts = {"ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2}}
    directory = save_family("dbrx", tmp_path, tiny_tokenizer, d_model=64, n_heads=4, n_layers=2, **sizes, **experts)
    with pytest.raises(ModelUnsupported, match="transformers itself does not run this dbrx"):
        check_exact(find_model(str(directory), tmp_path).load(threads=1))


def test_a_window_longer_than_the_context_is_full_attention(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    directory = save_family("mistral", tmp_path, tiny_tokenizer, sliding_window=512)
    check_exact(find_model(str(directory), tmp_path).load(threads=1))


def test_a_window_that_the_configuration_hides_is_noticed(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """The attention function reads what the model asks of it and refuses what it would have to ignore."""
    directory = save_family("mistral", tmp_path, tiny_tokenizer)
    model = find_model(str(directory), tmp_path).load(threads=1)
    model.hf.config.sliding_window = 16
    compile_chain(model, [list(range(3, 15))])
    with pytest.raises(ModelUnsupported, match=r"sliding-window attention \(16 tokens\)"):
        compile_chain(model, [list(range(3, 15)), list(range(3, 15))])


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"model_type": "nothing"}', "{}", '"llama"'])
def test_a_damaged_configuration_is_a_named_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(QuireError) as refused:
        find_model(str(tmp_path), tmp_path)
    assert "config" in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "wide"},
        {"num_hidden_layers": None},
        {"rope_parameters": 7},
        {"rope_parameters": {"rope_type": "spiral"}},
        {"max_position_embeddings": None},
        {"layer_types": "all"},
        {"architectures": 3},
        {"num_attention_heads": 0},
    ],
    ids=str,
)
def test_a_configuration_with_wrong_values_is_a_named_error(
    tmp_path: Path, tiny_model_dir: Path, changes: dict[str, Any]
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_model_dir.iterdir():
        (copy / file.name).symlink_to(file)
    (copy / "config.json").unlink()
    config = json.loads((tiny_model_dir / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changes))
    with suppress(ModelError):  # any other error fails the test; some values are harmless
        find_model(str(copy), tmp_path).load(threads=1)
