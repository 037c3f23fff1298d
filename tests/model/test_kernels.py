"""Linear layers of our own, where the kernels come from, and what a request's company does to its bits: nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.helium.modeling_helium import HeliumAttention
from transformers.models.ministral3.modeling_ministral3 import Ministral3Attention
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

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
    rounded,
)
from quire.model.torch_linear import Float32Linear, OneDnnLinear

from .families import FAMILIES, SIZES, save_family
from .running import compile_chain, library_on, our_kernels

ALLOWED = {"float32": 6e-8, "bfloat16": 4e-3, "float16": 6e-4}  # of the largest result: it is rounded once
SUMMED = 4 * 2**-24  # and each sum in float32, by chance up or down: times the root of their number, four deviations
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
    allowed = ALLOWED[dtype] + SUMMED * deep**0.5
    assert float((result.double() - exact).abs().max()) < allowed * max(spread, float(exact.abs().max()))
    alone = torch.cat([packed(x[i : i + 1]) for i in range(rows)])
    assert torch.equal(alone, result), "a row's bits do not depend on the rows beside it"


def test_a_packed_layer_takes_any_shape_and_stride() -> None:
    weight, bias = layer("float32", 40, 24, 1)
    packed = PackedLinear(our_kernels(), weight, bias)
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
    packed = packed_norm(our_kernels(), formula)
    assert isinstance(packed, PackedNorm)
    x = x.view(2, 3, dim)
    result, expected = packed(x).float(), formula(x).detach().float()
    torch.testing.assert_close(result, expected, rtol=1e-5 if dtype == "float32" else 2e-2, atol=1e-5)
    assert packed_norm(our_kernels(), other := Formula(weight[0], 1.0)) is other, "another formula keeps its own code"


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("dtype", list(ALLOWED))
def test_layers_like_llamas_are_computed_in_one_call_and_others_are_left(
    family: str, dtype: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    our_kernels()
    model = find_model(str(save_family(family, tmp_path, tiny_tokenizer)), tmp_path, dtype=dtype).load(threads=1)
    whole = any(isinstance(part, PackedStack) for part in model.hf.modules())
    assert whole == (family in {"llama", "mistral", "qwen2", "qwen3"})
    check_exact(model)


def two_layers(kind: str, dtype: str, spread: float) -> Any:
    """A model of transformers of two layers whose weights have standard deviation `spread`."""
    config = AutoConfig.for_model(kind, vocab_size=64, **SIZES)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModel.from_config(config)
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape) * spread + (1.0 if parameter.dim() == 1 else 0.0)
    return model.to(getattr(torch, dtype)).eval().requires_grad_(False)


def pack(weight: torch.Tensor, bias: torch.Tensor | None) -> PackedLinear:
    return PackedLinear(our_kernels(), weight, bias)


SPREADS = [0.002, 0.02, 0.15, 1.0]


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("dtype", list(ALLOWED))
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_right_layers_are_taken_over_whatever_the_size_of_their_weights(kind: str, dtype: str, spread: float) -> None:
    model = two_layers(kind, dtype, spread)
    with torch.inference_mode():
        assert packed_stack(our_kernels(), model, model.config, pack)


def other(kind: type[torch.nn.Module], model: Any, part: torch.nn.Module, *arguments: Any) -> torch.nn.Module:
    """A module of another family with the weights of `part`."""
    made = kind(*arguments).to(part.get_parameter(next(iter(dict(part.named_parameters())))).dtype)
    made.load_state_dict(part.state_dict())
    return made.eval().requires_grad_(False)


def with_gelu(model: Any, layer: Any) -> None:
    layer.mlp.act_fn = torch.nn.GELU()


def with_offset(model: Any, layer: Any) -> None:
    layer.post_attention_layernorm = other(
        GemmaRMSNorm, model, layer.post_attention_layernorm, model.config.hidden_size
    )


def with_pairs_side_by_side(model: Any, layer: Any) -> None:
    layer.self_attn = other(HeliumAttention, model, layer.self_attn, model.config, 1)


def with_another_scale(model: Any, layer: Any) -> None:
    layer.self_attn.scaling *= 2


def with_positions_in_the_scale(model: Any, layer: Any) -> None:
    layer.self_attn = other(Ministral3Attention, model, layer.self_attn, model.config, 1)


def with_a_forward_of_its_own(model: Any, layer: Any) -> None:
    plain = layer.mlp.forward
    layer.mlp.forward = lambda x: plain(x) * (1 + (x.shape[1] > 5000))


FAULTS = [with_gelu, with_offset, with_pairs_side_by_side, with_another_scale]


@pytest.mark.parametrize("fault", [*FAULTS, with_positions_in_the_scale, with_a_forward_of_its_own])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("dtype", list(ALLOWED))
def test_a_layer_that_computes_something_else_is_left(dtype: str, spread: float, fault: Callable[..., None]) -> None:
    """Also where it is lost in the rounding of the sums, or shows only beyond the positions that are tried."""
    model = two_layers("llama", dtype, spread)
    fault(model, model.layers[1])
    with torch.inference_mode():
        assert not packed_stack(our_kernels(), model, model.config, pack)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dtype", list(ALLOWED))
def test_the_numbers_alone_show_another_layer(dtype: str, fault: Callable[..., None]) -> None:
    model = two_layers("llama", dtype, 0.15)
    with torch.inference_mode():
        stack = PackedStack(our_kernels(), list(model.layers), model.config, pack)
        assert stack.agrees(model.rotary_emb)
        fault(model, model.layers[1])
        assert not stack.agrees(model.rotary_emb)


def test_rounded_weights_are_compared_with_what_is_kept_of_them() -> None:
    """One part in a thousand more in one matrix is another layer, although int8 changes the results by more."""
    model = two_layers("llama", "float32", 0.15)

    def pack_int8(weight: torch.Tensor, bias: torch.Tensor | None) -> PackedLinear:
        numbers, scale = quantized(weight)
        return PackedLinear(our_kernels(), numbers, bias, scale, dtype=weight.dtype)

    with torch.inference_mode():
        assert packed_stack(our_kernels(), model, model.config, pack_int8, rounded)
        assert not packed_stack(our_kernels(), model, model.config, pack_int8)
        stack = PackedStack(our_kernels(), list(model.layers), model.config, pack_int8)
        model.layers[1].mlp.down_proj.weight *= 1.001
        assert not stack.agrees(model.rotary_emb, rounded)


class Gated(torch.nn.Module):
    """As a norm, but for a second argument."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = torch.nn.Parameter(torch.ones(16)), 1e-5

    def forward(self, x: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, (16,), self.weight, self.variance_epsilon)


class Even(Formula):
    """As a norm, but it wants three dimensions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _batch, _tokens, _width = x.shape
        return super().forward(x)


@pytest.mark.parametrize("norm", [Gated(), Even(torch.ones(16), 0.0), torch.nn.RMSNorm(16), OlmoLayerNorm(16)])
def test_a_norm_of_another_form_keeps_its_own_code(norm: torch.nn.Module) -> None:
    assert packed_norm(our_kernels(), norm) is norm


def test_a_norm_of_numbers_in_another_dtype_is_computed_by_its_own_code() -> None:
    formula = Formula(torch.randn(64).bfloat16(), 0.0)
    packed, x = packed_norm(our_kernels(), formula), torch.randn(3, 64)
    assert isinstance(packed, PackedNorm)
    assert torch.equal(packed(x), formula(x))


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
    our_kernels()
    exact = find_model(str(tiny_model_dir), tmp_path).load(threads=1)
    rounded = find_model(str(tiny_model_dir), tmp_path, weights="int8").load(threads=1)
    assert rounded.facts.fingerprint != exact.facts.fingerprint, "its modules are not those of the exact model"
    check_exact(rounded)
    logits = [forward(model, [Row((), GrowingKV(model.geometry), [5, 6, 7])])[0] for model in (exact, rounded)]
    assert 0 < float((logits[0] - logits[1]).norm() / logits[0].norm()) < 0.1
    head = rounded.hf.lm_head
    assert isinstance(head, PackedLinear)
    assert head.scale is not None
    with torch.inference_mode():
        head.scale.neg_()
    with pytest.raises(ModelUnsupported, match="int8"):
        check_exact(rounded)
