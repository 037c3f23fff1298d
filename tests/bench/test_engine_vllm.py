"""vLLM as an arm: it starts, answers what Quire answers, and takes the document from its prefix cache.

Needs an interpreter with vLLM: `VLLM_PYTHON`, or the environment that `quire bench engine` makes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.document import CHECKOUT_DOCUMENT
from quire.bench.engine.environment import READY, VLLM, bench_home
from quire.bench.engine.requests import TOKENS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def interpreter() -> str:
    home = bench_home() / VLLM.replace("==", "-")
    if python := os.environ.get("VLLM_PYTHON"):
        return python
    if not (home / READY).is_file():
        pytest.skip("no vLLM: set VLLM_PYTHON, or let `quire bench engine` make its environment")
    return "auto"


@pytest.fixture
def model_dir(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A Llama as `tiny_model_dir`, with heads of 32: vLLM has no attention for smaller ones on a CPU."""
    directory = tmp_path / "model"
    tiny_tokenizer.save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        initializer_range=0.15,
        bos_token_id=tiny_tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=tiny_tokenizer.convert_tokens_to_ids("<|im_end|>"),
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(20)
        LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def test_vllm_does_the_same_work(tmp_path: Path, model_dir: Path, interpreter: str) -> None:
    document, output = tmp_path / "document.md", tmp_path / "engine.json"
    document.write_text(CHECKOUT_DOCUMENT.read_text(encoding="utf-8")[:2500], encoding="utf-8")
    arguments = ["engine", "--model", str(model_dir), "--document", str(document), "--arms", "quire,vllm"]
    arguments += ["--concurrency", "1,8", "--repeat", "2", "--threads", "1", "--vllm", interpreter]
    result = CliRunner().invoke(bench, [*arguments, "--json", str(output)], catch_exceptions=False)
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert figures["arms"]["vllm"]["ended"] is None, result.output
    assert figures["arms"]["vllm"]["threads"] == 1
    blocks = figures["document"]["tokens"] // 128 * 128
    assert blocks > 0
    for level in figures["levels"]:
        for run in level["arms"]["vllm"]["repetitions"]:
            assert min(run["cached_tokens"]) >= blocks
    same = next(f for f in figures["sections"]["the same work"] if "quire and vllm agree" in f["name"])
    assert same["value"] == TOKENS
    assert len(figures["restart_seconds"]["vllm"]) == 2
