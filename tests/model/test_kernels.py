"""Linear layers of our own, where the kernels come from, and what a request's company does to its bits: nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from quire.errors import KernelsUnavailable, ModelUnsupported
from quire.model import GrowingKV, LoadedModel, Row, check_exact, find_model, forward
from quire.model.arithmetic import choose_arithmetic
from quire.model.backends import TorchBackend, choose_backend
from quire.model.kernels import (
    Library,
    PackedLinear,
    PackedNorm,
    PackedStack,
    Unit,
    load_library,
    packed_norm,
    packed_stack,
    quantized,
)
from quire.model.torch_linear import Float32Linear, OneDnnLinear

from .families import FAMILIES, save_family
from .running import compile_chain, library_on

ALLOWED = {"float32": 2e-6, "bfloat16": 4e-3, "float16": 6e-4}  # of the largest result
CPU = torch.device("cpu")


def layer(dtype: str, wide: int, deep: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(wide, deep, generator=draw).to(getattr(torch, dtype))
    return weight, torch.randn(wide, generator=draw).to(getattr(torch, dtype))


@pytest.fixture(scope="module", params=list(Unit), ids=lambda unit: unit.name.lower())
def library(request: pytest.FixtureRequest) -> Library:
    return library_on(request.param)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(list(ALLOWED)),
    rows=st.sampled_from([1, 2, 5, 11, 12, 13, 24, 25, 64]),
    wide=st.sampled_from([1, 31, 32, 33, 96, 200]),
    deep=st.sampled_from([1, 16, 70, 1023, 1024, 1025, 2100]),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_packed_layer_is_the_layer(
    library: Library, dtype: str, rows: int, wide: int, deep: int, biased: bool, seed: int
) -> None:
    weight, bias = layer(dtype, wide, deep, seed)
    packed = PackedLinear(library, weight, bias if biased else None, threads=2)
    x = torch.randn(rows, deep, generator=torch.Generator().manual_seed(seed)).to(weight.dtype)
    result = packed(x)
    exact = x.double() @ weight.double().T + (bias.double() if biased else 0)
    assert result.dtype == x.dtype
    spread = float(x.double().norm(dim=1).max() * weight.double().norm(dim=1).max()) / deep**0.5  # of random products
    assert float((result.double() - exact).abs().max()) < ALLOWED[dtype] * max(spread, float(exact.abs().max()))
    alone = torch.cat([packed(x[i : i + 1]) for i in range(rows)])
    assert torch.equal(alone, result), "a row's bits do not depend on the rows beside it"


def test_a_packed_layer_takes_any_shape_and_stride() -> None:
    weight, bias = layer("float32", 40, 24, 1)
    packed = PackedLinear(load_library(), weight, bias)
    x = torch.randn(2, 24, 3).transpose(1, 2)
    torch.testing.assert_close(packed(x), torch.nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("dtype", list(ALLOWED))
def test_int8_weights_are_rounded_by_output(library: Library, dtype: str) -> None:
    weight, _ = layer("bfloat16", 70, 300, 2)
    weight[3] *= 100  # an output of another size keeps its own precision
    rounded, scale = quantized(weight)
    x = torch.randn(7, 300, generator=torch.Generator().manual_seed(3)).to(getattr(torch, dtype))
    result = PackedLinear(library, rounded, None, scale, dtype=x.dtype)(x).double()
    for target, allowed in ((rounded.double() * scale[:, None].double(), 4e-3), (weight.double(), 4e-2)):
        exact = x.double() @ target.T
        assert float(((result - exact).norm(dim=0) / exact.norm(dim=0)).max()) < allowed


@pytest.mark.parametrize("name", ["chosen", "float32"])
def test_pytorchs_layer_is_the_layer(name: str) -> None:
    plain = torch.nn.Linear(70, 33).bfloat16().requires_grad_(False)
    name = choose_arithmetic("torch").name if name == "chosen" else name
    layer = TorchBackend(name).linear(plain)
    assert isinstance(layer, OneDnnLinear if name == "onednn" else Float32Linear)
    for rows in (1, 3, 40):
        x = torch.randn(2, rows, 70).bfloat16()
        torch.testing.assert_close(layer(x), plain(x), rtol=2e-2, atol=2e-2)


class Formula(torch.nn.Module):
    """Root-mean-square normalization; `offset`: as the families that keep their weights around zero."""

    def __init__(self, weight: torch.Tensor, offset: float) -> None:
        super().__init__()
        self.weight, self.offset, self.variance_epsilon = torch.nn.Parameter(weight), offset, 1e-5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        even = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.weight + self.offset) * even.to(x.dtype)


@pytest.mark.parametrize("dtype", list(ALLOWED))
@pytest.mark.parametrize("dim", [8, 16, 30, 576])
def test_a_norm_is_replaced_by_one_that_computes_the_same(dtype: str, dim: int) -> None:
    weight, x = (torch.randn(n, dim).to(getattr(torch, dtype)) for n in (1, 6))
    formula = Formula(weight[0], 0.0)
    packed = packed_norm(load_library(), formula)
    assert isinstance(packed, PackedNorm)
    x = x.view(2, 3, dim)
    result, expected = packed(x).float(), formula(x).detach().float()
    torch.testing.assert_close(result, expected, rtol=1e-5 if dtype == "float32" else 2e-2, atol=1e-5)
    assert packed_norm(load_library(), other := Formula(weight[0], 1.0)) is other, "another formula keeps its own code"


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("dtype", list(ALLOWED))
def test_layers_like_llamas_are_computed_in_one_call_and_others_are_left(
    family: str, dtype: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = find_model(str(save_family(family, tmp_path, tiny_tokenizer)), tmp_path, dtype=dtype).load(threads=1)
    whole = any(isinstance(part, PackedStack) for part in model.hf.modules())
    assert whole == (family in {"llama", "mistral", "qwen2", "qwen3"})
    check_exact(model)


def test_a_layer_that_computes_something_else_is_not_taken_over(llama: LoadedModel) -> None:
    """The parts are the same, and what they compute together is not: only the try can tell."""
    layers = copy.deepcopy(llama.plain.model.layers)
    rotary, config, library = llama.plain.model.rotary_emb, llama.plain.config, load_library()

    def pack(weight: torch.Tensor, bias: torch.Tensor | None) -> PackedLinear:
        return PackedLinear(library, weight, bias)

    with torch.inference_mode():
        assert packed_stack(library, list(layers), rotary, config, pack)
        layers[1].mlp.act_fn = torch.nn.GELU()
        assert not packed_stack(library, list(layers), rotary, config, pack)


def test_logits_are_the_same_bits_alone_in_a_batch_and_in_pieces(llama: LoadedModel) -> None:
    chain = compile_chain(llama, [list(range(3, 80)), list(range(3, 50))])
    questions = [list(range(5, 5 + n)) for n in (1, 4, 13, 40)]

    def asked(which: list[int]) -> torch.Tensor:
        return forward(llama, [Row(chain, GrowingKV(llama.geometry), questions[i]) for i in which])

    together = asked([0, 1, 2, 3])
    for i in range(4):
        assert torch.equal(asked([i])[0], together[i])
    kv, logits = GrowingKV(llama.geometry), torch.empty(0)
    for start, end in ((0, 1), (1, 20), (20, 33), (33, 40)):
        others = [Row(chain, GrowingKV(llama.geometry), questions[1])]
        logits = forward(llama, [*others, Row(chain, kv, questions[3][start:end])])[1]
    assert torch.equal(logits, together[3])


def test_without_a_compiler_auto_takes_pytorch_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_library.cache_clear()
    assert isinstance(choose_backend("auto", CPU, "bfloat16"), TorchBackend)
    assert "no-such-compiler" in caplog.text
    for name, weights in (("native", "auto"), ("auto", "int8")):
        with pytest.raises(KernelsUnavailable, match="does not run"):
            choose_backend(name, CPU, "bfloat16", weights)
    load_library.cache_clear()


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho it is broken >&2; exit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_library.cache_clear()
    with pytest.raises(KernelsUnavailable, match="it is broken"):
        load_library()
    assert not list((tmp_path / "quire" / "kernels").iterdir()), "nothing half-made is left"
    load_library.cache_clear()


def test_int8_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(KernelsUnavailable, match="own kernels"):
        choose_backend("torch", CPU, "bfloat16", "int8")
    with pytest.raises(KernelsUnavailable, match="CPU"):
        choose_backend("auto", torch.device("meta"), "bfloat16", "int8")


def test_int8_weights_make_another_model_whose_quality_is_checked(tiny_model_dir: Path, tmp_path: Path) -> None:
    exact = find_model(str(tiny_model_dir), tmp_path).load(threads=1)
    rounded = find_model(str(tiny_model_dir), tmp_path, weights="int8").load(threads=1)
    assert rounded.facts.fingerprint != exact.facts.fingerprint, "its modules are not those of the exact model"
    check_exact(rounded)
    logits = [forward(model, [Row((), GrowingKV(model.geometry), [5, 6, 7])])[0] for model in (exact, rounded)]
    assert 0 < float((logits[0] - logits[1]).norm() / logits[0].norm()) < 0.1
    for layer in rounded.hf.modules():
        if isinstance(layer, PackedLinear):
            layer.scale = -layer.scale if layer.scale is not None else None
    with pytest.raises(ModelUnsupported, match="int8"):
        check_exact(rounded)
