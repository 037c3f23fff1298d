"""What computes a model on processors and machines of all kinds: tried, chosen, said, and recorded with modules."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from quire.errors import InvalidSetting, KernelsUnavailable
from quire.model import check_exact, choose_arithmetic, find_model
from quire.model.backends import TorchBackend
from quire.model.kernels import find_compiler, load_library
from quire.model.loading import LoadedModel
from quire.settings import MAX_CPU_ISA, load_settings

from .families import FAMILIES, save_family
from .running import built

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "QUIRE_MAX_CPU_ISA": "AVX2"}
LOADED = """
import json, logging, sys
logging.basicConfig(format="%(message)s", stream=sys.stderr)
from pathlib import Path
from quire.errors import InvalidSetting, KernelsUnavailable
from quire.model import check_exact, find_model
found = {}
for dtype in ("bfloat16", "float32"):
    for kernels in ("torch", "auto"):
        model = find_model(sys.argv[1], Path(sys.argv[1]).parent, dtype=dtype).load(threads=1, kernels=kernels)
        check_exact(model)
        found[f"{dtype} {kernels}"] = model.backend.identity
print(json.dumps(found))
"""


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def llama_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    return save_family("llama", tmp_path_factory.mktemp("llama"), tiny_tokenizer)


def test_a_processor_without_products_of_bfloat16_runs_models_in_bfloat16(llama_dir: Path) -> None:
    """oneDNN refuses to pack their weights there."""
    done = run(LOADED, str(llama_dir), **AVX2, CXX="no-such-compiler")
    expected = {"bfloat16": "torch-float32", "float32": "torch"}
    assert json.loads(done.stdout) == {f"{d} {k}": expected[d] for d in expected for k in ("torch", "auto")}
    said = [line for line in done.stderr.splitlines() if "are computed by" in line]
    assert len(said) == 2, "one line for each model that does not run as it was asked to"
    assert "linear layers on float32 copies" in said[0]
    assert "no-such-compiler" in said[0]
    assert "bf16 path needs" in said[0]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_float32_copies_give_the_logits_of_the_model(
    family: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    plain = find_model(str(save_family(family, tmp_path, tiny_tokenizer)), tmp_path, dtype="bfloat16").load(threads=1)
    copied = LoadedModel(plain.source, plain.plain, TorchBackend("float32"))
    check_exact(copied)
    assert copied.backend.identity == "torch-float32"


def test_what_computes_says_so() -> None:
    chosen = choose_arithmetic()
    assert chosen.processor
    assert chosen.compiler == find_compiler()
    if chosen.name == "native":
        assert chosen.level == load_library().level
        assert chosen.level in str(chosen)
        assert not chosen.reason
    asked = choose_arithmetic("torch")
    assert (asked.name, asked.level) in {("onednn", None), ("float32", None), ("torch", None)}
    assert "model.kernels is torch" in str(asked)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("level", "compiler", "flags", "emulator"),
    [
        # Dot products of bfloat16 are not taken where the processor has none, also if they are asked for.
        ("AVX2", "g++", ["-march=x86-64-v3", "-DQUIRE_DOTS_ONLY"], []),
        ("baseline", "g++", ["-march=x86-64"], []),
        # Compiled for another processor: found out before an instruction that is not there ends the process.
        ("without avx512f", "g++", ["-march=x86-64-v4"], ["qemu-x86_64", "-cpu", "Haswell-v4"]),
        ("NEON", "aarch64-linux-gnu-g++", [], ["qemu-aarch64"]),
    ],
)
def test_the_kernels_compute_what_plain_loops_do(
    level: str, compiler: str, flags: list[str], emulator: list[str], tmp_path: Path
) -> None:
    """Also on a processor for ARM that is emulated: apt-get install g++-aarch64-linux-gnu qemu-user"""
    if platform.machine() != "x86_64" and compiler == "g++":
        pytest.skip("the flags are those of other processors")
    program = built("arithmetic.cpp", tmp_path, "-static", *flags, compiler=compiler)
    done = subprocess.run([*emulator, program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{level}\n"), done.stderr


@pytest.mark.parametrize("kept", ["a file", "nothing"])
def test_a_cache_that_cannot_be_written_costs_speed_only(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the directory should be stands for all of the kind: root may write to what is read-only."""
    if kept == "a file":
        (tmp_path / "quire").write_text("")
    else:
        compiler = tmp_path / "compiler"  # one that ends well and writes nothing
        compiler.write_text("#!/bin/sh\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_library.cache_clear()
    chosen = choose_arithmetic()
    assert chosen.name in {"onednn", "float32"}
    assert chosen.reason
    assert ("wrote no library" if kept == "nothing" else str(tmp_path)) in chosen.reason or not find_compiler()
    with pytest.raises(KernelsUnavailable):
        choose_arithmetic("native")


def test_an_instruction_set_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(None, {MAX_CPU_ISA: "AVX2"}), "it is no unknown setting"
    monkeypatch.setenv(MAX_CPU_ISA, "AVX3")
    monkeypatch.delenv("CXX", raising=False)
    load_library.cache_clear()  # it remembers no failure
    with pytest.raises(InvalidSetting, match="AVX512_BF16"):
        choose_arithmetic()
