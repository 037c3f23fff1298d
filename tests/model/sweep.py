"""Every family of causal models that transformers has, as a small random model: exact here, or refused by a feature.

As a program it writes the table of docs/models.md: `make docs-models`.
"""

from __future__ import annotations

import copy
import gc
import inspect
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from conftest import train_tokenizer
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from quire.errors import ModelUnsupported
from quire.model import LoadedModel, check_exact, find_model, prefill
from quire.model.kernels import PackedLinear, PackedStack
from quire.model.support import check_supported, missing_features

from .families import SIZES
from .running import compile_chain, full_logits, greedy, greedy_by_transformers

FAMILIES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
TROUBLESOME = ("gemma", "olmo", "ministral3", "hunyuan_v1_moe", "falcon", "stablelm", "nemotron", "qwen3_next")
SMALL: dict[str, Any] = SIZES | {
    **dict.fromkeys(("n_layers", "num_layers"), 2),
    **dict.fromkeys(("d_model", "n_embd", "ffn_hidden_size", "ffn_dim", "dense_intermediate_size"), 64),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_intermediate_size", "shared_intermediate_size"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "moe_top_k"), 2),
    **dict.fromkeys(("n_heads", "n_head"), 4),
    **dict.fromkeys(("num_kv_heads", "kv_n_heads", "n_head_kv"), 2),
    **dict.fromkeys(("kv_channels", "rotary_dim", "index_head_dim"), 16),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "index_n_heads"), 2),
    **dict.fromkeys(("max_seq_len", "n_positions", "n_ctx"), 512),
    **dict.fromkeys(("n_shared_experts", "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    **dict.fromkeys(
        ("floor_scale", "original_max_position_embeddings", "keep_window_size"), 32
    ),  # within a try's length
    **dict.fromkeys(("index_block_size", "index_topk_blocks"), 4),
    "no_rope_layer_interval": 2,
    "moe_layer_end_index": -1,
    "pad_token_id": 0,
    "rope_theta": 1e4,
}
FULL = {"layer_types": ["full_attention"] * 2, "use_sliding_window": False}
PARTS = {  # configurations that do not exist without those of their parts
    family: {"text_encoder": {"model_type": "t5"}, "audio_encoder": {"model_type": "encodec"}, "decoder": {}}
    for family in ("musicgen", "musicgen_melody")
}
TOKENS, CHAIN, ANSWER = 60, (21, 19), 12
ALLOWED = 1e-3  # of the spread of the logits, in float32


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a family.

    `published`: features that its default configuration has and the engine lacks. `full`: those that are left where
    every layer attends to all tokens; empty: it is exact. `arithmetic`: what computes it then.
    """

    family: str
    published: tuple[str, ...]
    full: tuple[str, ...]
    arithmetic: str = ""

    def row(self) -> str:
        """Its line in the table."""
        given = "exact" if not self.published else f"refused: {', '.join(self.published)}"
        bent = "exact" if not self.full else f"refused: {', '.join(self.full)}"
        bent = "-" if self.full == self.published != () else bent
        return f"| `{self.family}` | {example(self.family)} | {given} | {bent} | {self.arithmetic or '-'} |"


def chosen(count: int | None) -> list[str]:
    """`count` families: those that gave trouble, and others spread over the list. None: all."""
    if count is None:
        return list(FAMILIES)
    others = [family for family in FAMILIES if family not in TROUBLESOME]
    left = max(0, count - len(TROUBLESOME))
    return [*TROUBLESOME[:count], *(others[i * len(others) // left] for i in range(left))]


def example(family: str) -> str:
    """A model that transformers names for the family."""
    named = re.findall(r'checkpoint="([^"]+)"', inspect.getsource(sys.modules[CONFIG_MAPPING[family].__module__]))
    return named[0] if named else "-"


def examine(family: str, tokenizer: PreTrainedTokenizerFast) -> Verdict:
    """Build the family small, and compare it with transformers on our kernels and on PyTorch's.

    Raises:
        AssertionError: it is accepted and not exact, or refused without a feature.
        Exception: whatever a user of such a model would see.
    """
    published = tuple(missing_features(default(family)))
    config = small(family, len(tokenizer))
    if config is None:
        return Verdict(family, published, published)
    try:
        check_supported(config)
        with tempfile.TemporaryDirectory() as work:
            save(config, Path(work), tokenizer)
            arithmetic = compared(Path(work))
    except ModelUnsupported as refusal:
        return Verdict(family, published, features(refusal))
    finally:
        if not missing_features(config):
            gc.collect()  # the model's memory, before the next one is built
    return Verdict(family, published, (), arithmetic)


def default(family: str, **changes: Any) -> Any:
    return AutoConfig.for_model(family, **(copy.deepcopy(PARTS.get(family, {})) | changes))


def small(family: str, vocabulary: int) -> Any:
    """A configuration of small sizes and full attention. None: transformers takes none, for what the family is."""
    known = default(family).to_dict()
    values = _shrunk(known) | {"vocab_size": vocabulary}
    full = {name: value for name, value in FULL.items() if name in known}
    if "layer_types" not in known and "sliding_window" in known:
        full["sliding_window"] = None
    for more in (full, {}):
        try:
            return default(family, **(values | more))
        except Exception:  # a family without such layers, or with rules of its own: see the assertion
            continue
    assert missing_features(default(family)), f"{family} has no small configuration"
    return None


def _shrunk(known: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in SMALL.items() if name in known}
    nested = {n: _shrunk(v) for n, v in known.items() if isinstance(v, dict) and n.endswith("_config")}
    rope = known.get("rope_parameters")
    if isinstance(rope, dict) and rope.get("original_max_position_embeddings"):
        nested["rope_parameters"] = rope | {"original_max_position_embeddings": 32}
    if "attn_config" in nested:
        nested["attn_config"] |= {"rope_theta": 1e4, "clip_qkv": 8.0}
    return values | nested


def save(config: Any, directory: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """A model with random weights, large enough for logits that differ clearly between tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(config).float()
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape)
            parameter.data = noise * 0.15 if parameter.dim() > 1 else parameter.data + noise * 0.1
        model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def compared(directory: Path) -> str:
    """What computes the model on our kernels. Raises: AssertionError, ModelUnsupported."""
    check_exact(find_model(str(directory), directory, dtype="bfloat16").load(threads=1))
    for kernels in ("torch", "native"):
        model = find_model(str(directory), directory).load(threads=1, kernels=kernels)
        check_exact(model)
        compare(model)
    parts = {type(part) for part in model.hf.modules()}
    return next((name for part, name in ARITHMETIC.items() if part in parts), "PyTorch")


ARITHMETIC = {PackedStack: "whole stack", PackedLinear: "kernels by layer"}


def compare(model: LoadedModel) -> None:
    ids = torch.randint(3, 600, (TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    head, middle = CHAIN
    suffix = ids[head + middle :]
    chain = compile_chain(model, [ids[:head], ids[head : head + middle]], 16)
    ours, theirs = prefill(model, chain, model.new_kv(), suffix, 7), full_logits(model, ids)
    difference = float((ours - theirs).norm() / (theirs - theirs.mean()).norm())
    assert difference < ALLOWED, f"logits differ by {difference:.2g} of their spread"
    answers = greedy(model, chain, suffix, ANSWER), greedy_by_transformers(model, ids, ANSWER)
    if answers[0] != answers[1]:  # no fault only where the full prefill itself was torn between two tokens
        at = next(i for i in range(ANSWER) if answers[0][i] != answers[1][i])
        logits = full_logits(model, [*ids, *answers[1][:at]])
        gap = float(logits[answers[1][at]] - logits[answers[0][at]])
        assert gap < ALLOWED * float(logits.std()), f"token {at} of the answer differs"


def features(refusal: ModelUnsupported) -> tuple[str, ...]:
    """What a refusal names. Raises: AssertionError, if it names nothing."""
    named = re.search(r"(?:uses|attention has) (.+), which the engine does not compute exactly$", str(refusal))
    assert named, f"no feature is named: {refusal}"
    return tuple(re.split(r", (?!whose)", named[1]))


PAGE = """# Models

The {count} families of causal language models in transformers {version}, and which of them run here. `make docs-models`
writes this page: it builds each family small, with random weights, and computes it behind a chain of two modules. An
*exact* one gives the logits and greedy tokens of transformers' own forward pass, on our kernels and with
`model.kernels` set to `torch`. Any other is refused by the name of the feature, before anything is compiled.
`make test-chaos` repeats this.

The `config.json` of a checkpoint decides, not the family: an LFM2 with convolutions is refused.

* *By default*: with the values that transformers gives to an empty configuration.
* *Full attention*: where the configuration says that every layer attends to all tokens. A line: nothing changes.
* *Arithmetic*, on a CPU with our kernels: *whole stack* computes all layers in one call; *kernels by layer* keeps
  transformers' code between the products.

| family | for example | by default | full attention | arithmetic |
|---|---|---|---|---|
{rows}
"""


def main(page: Path) -> None:
    import transformers

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = train_tokenizer(600)
    rows = [examine(family, tokenizer).row() for family in FAMILIES]
    version = ".".join(transformers.__version__.split(".")[:2])
    page.write_text(PAGE.format(count=len(rows), version=version, rows="\n".join(rows)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
