"""`quire model`: what a model is, or what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .conftest import MakeProject, Quire


def test_the_projects_model_is_described(quire: Quire, project: MakeProject, tiny_model_dir: Path) -> None:
    root = project({"prices": "A bolt costs 3 pounds."})
    told = quire("model", "show", "--json", "--project", root).json
    assert (told["layers"], told["kv_heads"], told["head_dim"], told["dtype"]) == (2, 2, 16, "float32")
    assert told["bytes_per_token"] == 2 * 2 * 2 * 16 * 4
    assert told["context"] == 2048
    assert told["directory"] == str(tiny_model_dir)
    assert "2,048 tokens" in quire("model", "show", tiny_model_dir).out
    assert str(tiny_model_dir) in quire("model", "fetch", tiny_model_dir).out


def test_a_model_beyond_the_engine_is_refused_by_the_feature(
    quire: Quire, tmp_path: Path, tiny_model_dir: Path
) -> None:
    copy = tmp_path / "windowed"
    shutil.copytree(tiny_model_dir, copy)
    config = json.loads((copy / "config.json").read_text())
    config.update(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=64)
    (copy / "config.json").write_text(json.dumps(config))
    refused = quire("model", "show", copy)
    assert refused.code == 4
    assert "sliding-window attention (64 tokens)" in refused.err


def test_a_missing_model_is_refused(quire: Quire, tmp_path: Path) -> None:
    refused = quire("model", "show", tmp_path / "nothing")
    assert refused.code == 4
    assert "hint: the built-in model is 'smollm2-135m-instruct'" in refused.err
