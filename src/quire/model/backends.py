"""Which arithmetic a model runs on: kernels of our own, or PyTorch's.

`quire.model.arithmetic` chooses; auto takes our kernels on a CPU where they can be compiled, and on a GPU our attention
where Triton is installed, as it is with PyTorch's CUDA builds.
"""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch

from quire.errors import ModelUnsupported
from quire.model.arithmetic import Arithmetic, choose_arithmetic
from quire.model.kernels import (
    Library,
    NativeAttention,
    PackedLinear,
    Panels,
    load_library,
    packed_norm,
    packed_stack,
    quantized,
    replaced_norm,
    rounded,
)
from quire.model.likeliest import likeliest, native_likeliest
from quire.model.torch_attention import TorchAttention
from quire.model.torch_linear import Float32Linear, OneDnnLinear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quire.model.attention import AttentionPlan, SharedSpan, SuffixSpan
    from quire.model.cuda import DecodeSteps
    from quire.model.loading import LoadedModel

log = logging.getLogger(__name__)

FLOATS = {torch.float32, torch.bfloat16, torch.float16}


class Backend(ABC):
    """Arithmetic of one loaded model."""

    identity: str  # recorded with a module: two backends may differ in the last bits
    steady = False  # whether a token's bits do not depend on the tokens computed beside it
    arithmetic: Arithmetic | None = None  # what was chosen here, and why; None where nothing was

    def another(self) -> Backend:
        """The same arithmetic for another model, which shares no memory with this one's."""
        return self

    @abstractmethod
    def linear(self, layer: torch.nn.Linear) -> torch.nn.Module:
        """A module that computes what `layer` does; may be `layer` itself."""

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Around a forward pass."""
        yield

    def norm(self, layer: torch.nn.Module) -> torch.nn.Module:
        """A module that computes what `layer`, a root-mean-square normalization, does; may be `layer` itself."""
        return layer

    def whole(self, module: torch.nn.Module, config: Any) -> dict[str, torch.nn.Module]:
        """Children of `module` that are replaced as a whole, by name. `config`: the copy's, see `twin`."""
        return {}

    @abstractmethod
    def attention(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> AttentionPlan:
        """The plan of one pass."""

    def likeliest(self, logits: torch.Tensor) -> tuple[list[int], list[bool]]:
        """The first of the best tokens of every row, and whether its logit is a finite number."""
        return likeliest(logits)

    def decoder(self, model: LoadedModel, most: int) -> DecodeSteps | None:
        """What replays decode steps of up to `most` requests, where launching them one by one is slow; else None."""
        return None


class NativeBackend(Backend):
    """Our kernels. A request's results are the same bits whatever else is in its batch, and for any thread count."""

    steady = True

    def __init__(self, library: Library, *, threads: int, int8: bool = False) -> None:
        """`int8`: linear layers in int8 with one scale per output; lossy."""
        self._library = library
        self._threads = threads
        self._int8 = int8
        self._panels = Panels()
        self.identity = f"quire-{library.identity}" + ("-int8" if int8 else "")

    def another(self) -> NativeBackend:
        return NativeBackend(self._library, threads=self._threads, int8=self._int8)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """What PyTorch computes between our kernels is small: on one thread it never waits at an OpenMP barrier."""
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(self._threads)

    def linear(self, layer: torch.nn.Linear) -> torch.nn.Module:
        return self._packed(layer.weight, layer.bias) if layer.weight.dtype in FLOATS else layer

    def norm(self, layer: torch.nn.Module) -> torch.nn.Module:
        return packed_norm(self._library, layer)

    def whole(self, module: torch.nn.Module, config: Any) -> dict[str, torch.nn.Module]:
        if not isinstance(module._modules.get("layers"), torch.nn.ModuleList) or "rotary_emb" not in module._modules:
            return {}
        stack = packed_stack(self._library, module, config, self._packed, rounded if self._int8 else None)
        if not stack:
            self._panels = Panels()  # the memory of a stack that is not used goes with it
            return {}
        return {"layers": torch.nn.ModuleList([stack])}

    def attention(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> AttentionPlan:
        return NativeAttention(shared, suffixes, self._library, self._threads)

    def likeliest(self, logits: torch.Tensor) -> tuple[list[int], list[bool]]:
        return native_likeliest(self._library, logits, self._threads)

    def _packed(self, weight: torch.Tensor, bias: torch.Tensor | None) -> PackedLinear:
        numbers, scale = quantized(weight) if self._int8 else (weight, None)
        return PackedLinear(
            *(self._library, numbers, bias, scale), dtype=weight.dtype, panels=self._panels, threads=self._threads
        )


class TorchBackend(Backend):
    """PyTorch's operations. `name` ("torch", "onednn", "float32") says how linear layers in bfloat16 are computed."""

    def __init__(self, name: str = "torch") -> None:
        self._linear = {"onednn": OneDnnLinear, "float32": Float32Linear}.get(name)
        self.identity = "torch-float32" if name == "float32" else "torch"

    def linear(self, layer: torch.nn.Linear) -> torch.nn.Module:
        return self._linear(layer) if self._linear and layer.weight.dtype == torch.bfloat16 else layer

    def attention(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> AttentionPlan:
        return TorchAttention(shared, suffixes)


class TritonBackend(Backend):
    """PyTorch's products, attention and normalization by our kernels for a GPU."""

    identity = "triton"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Triton launches on the thread's current device, which need not be the model's."""
        with torch.cuda.device(self._device) if self._device.type == "cuda" else contextlib.nullcontext():
            yield

    def linear(self, layer: torch.nn.Linear) -> torch.nn.Module:
        return layer

    def norm(self, layer: torch.nn.Module) -> torch.nn.Module:
        from quire.model.cuda import TritonNorm

        with self.computing():
            return replaced_norm(layer, TritonNorm)

    def attention(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> AttentionPlan:
        from quire.model.cuda import TritonAttention  # Triton is there only where PyTorch came with CUDA

        return TritonAttention(shared, suffixes)

    def decoder(self, model: LoadedModel, most: int) -> DecodeSteps | None:
        from quire.model.cuda import DecodeSteps

        try:
            return DecodeSteps(model, most)
        except ModelUnsupported as error:
            log.warning("decoding is slower than it could be: %s", error)
            return None


def choose_backend(name: str, device: torch.device, dtype: str, weights: str = "auto") -> Backend:
    """The backend for `model.kernels` = `name` and a model on `device`. Logs what it computes with, and why.

    Args:
        dtype: of the model's weights and activations.
        weights: "auto" or "int8".

    Raises:
        KernelsUnavailable: "native" or int8 weights are asked for where our kernels cannot run.
    """
    chosen = choose_arithmetic(name, weights, str(device), dtype)
    log.log(logging.WARNING if chosen.hint else logging.INFO, "%s", chosen)
    backend: Backend
    if chosen.name == "native":
        backend = NativeBackend(load_library(), threads=torch.get_num_threads(), int8=weights == "int8")
    else:
        backend = TritonBackend(device) if chosen.name == "triton" else TorchBackend(chosen.name)
    backend.arithmetic = chosen
    return backend
