"""A GGUF file is converted once, and answers as the model it was made from."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from quire.errors import ModelUnreadable
from quire.model import LoadedModel, check_exact, find_model

from .gguf_files import write_gguf


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    return write_gguf(tiny_model_dir, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_it_is_the_model_it_was_made_from(file: Path, tmp_path: Path, tiny_model: LoadedModel) -> None:
    told: list[str] = []
    model = find_model(str(file), tmp_path, progress=told.append).load(threads=1)
    check_exact(model)
    assert told == ["converting tiny.gguf (once)"]
    assert model.tokenizer.words("the keeper's <|im_end|> log") == tiny_model.tokenizer.words(
        "the keeper's <|im_end|> log"
    )
    assert model.tokenizer.markers("<|im_start|>") == tiny_model.tokenizer.markers("<|im_start|>")
    assert model.tokenizer.eos_ids == tiny_model.tokenizer.eos_ids
    assert model.tokenizer.chat_template
    ids = torch.tensor([[5, 90, 300, 411, 17]])
    with model.reference() as ours, tiny_model.reference() as theirs:
        logits, expected = ours(ids).logits.float(), theirs(ids).logits.float()
    assert float((logits - expected).abs().max()) < 0.1 * float(expected.std()), "bfloat16 against float32"


def test_it_is_converted_once(file: Path, tmp_path: Path) -> None:
    told: list[str] = []
    first = find_model(str(file), tmp_path, progress=told.append)
    again = find_model(str(file), tmp_path, progress=told.append)
    assert len(told) == 1
    assert first.facts == again.facts
    assert [p.name for p in tmp_path.iterdir()] == [first.directory.name]
    renamed = file.with_name("other.gguf")
    renamed.write_bytes(file.read_bytes())
    assert find_model(str(renamed), tmp_path).facts.fingerprint == first.facts.fingerprint


def test_a_damaged_file_is_named_and_leaves_nothing(file: Path, tmp_path: Path) -> None:
    draw = random.Random(6)
    data = file.read_bytes()
    broken = tmp_path / "broken.gguf"
    for _ in range(8):
        broken.write_bytes(data[: draw.randrange(len(data) // 2)])
        with pytest.raises(ModelUnreadable, match="could not be converted"):
            find_model(str(broken), tmp_path / "home")
        assert list((tmp_path / "home").iterdir()) == []
