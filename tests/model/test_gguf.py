"""A GGUF file is converted once, and answers as the model it was made from."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy
import pytest
import torch

from quire.errors import ModelUnreadable, ModelUnsupported
from quire.model import LoadedModel, check_exact, find_model
from quire.model.gguf_header import check_gguf

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
        with pytest.raises(ModelUnreadable, match="could not be read"):
            find_model(str(broken), tmp_path / "home")
        assert not (tmp_path / "home").exists()


def with_rope_freqs(value: float) -> Callable[[gguf.GGUFWriter], object]:
    return lambda writer: writer.add_tensor("rope_freqs.weight", numpy.full(8, value, dtype=numpy.float32))


REFUSED: list[tuple[str, Callable[[gguf.GGUFWriter], object], str]] = [
    ("mamba", id, "recurrent layers"),
    ("bloom", id, "ALiBi positions"),
    ("mlm-of-tomorrow", id, "does not convert GGUF files of the architecture 'mlm-of-tomorrow'"),
    ("llama", lambda writer: writer.add_sliding_window(64), "sliding-window attention (64 tokens)"),
    ("llama", lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN), "yarn rotary scaling"),
    ("llama", with_rope_freqs(8.0), "rotary frequencies of its own"),
    ("qwen2", lambda writer: writer.add_rope_dimension_count(8), "rotary positions of a part of each head"),
]


@pytest.mark.parametrize(("architecture", "more", "feature"), REFUSED, ids=[f"{a}-{f}" for a, _, f in REFUSED])
def test_the_header_is_refused_before_anything_is_converted(
    architecture: str, more: Callable[[gguf.GGUFWriter], object], feature: str, tmp_path: Path, tiny_model_dir: Path
) -> None:
    file = write_gguf(tiny_model_dir, tmp_path / "model.gguf", architecture, more)
    told: list[str] = []
    with pytest.raises(ModelUnsupported) as refused:
        find_model(str(file), tmp_path / "home", progress=told.append)
    assert feature in str(refused.value)
    assert refused.value.hint
    assert not told
    assert not (tmp_path / "home").exists()


def test_a_header_that_changes_nothing_is_accepted(tmp_path: Path, tiny_model_dir: Path) -> None:
    def more(writer: gguf.GGUFWriter) -> None:
        with_rope_freqs(1.0)(writer)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(1.0)

    check_gguf(write_gguf(tiny_model_dir, tmp_path / "model.gguf", more=more))
