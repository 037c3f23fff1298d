"""Which arithmetic a model runs on: kernels of our own, or PyTorch's.

auto takes our kernels on a CPU where they can be compiled, except where the processor multiplies bfloat16 matrices in
hardware (AMX), which oneDNN uses and they do not. The choice depends on the machine alone, never on a measurement: two
starts give the same bits.
"""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from quire.errors import KernelsUnavailable
from quire.model.kernels import Library, NativeAttention, PackedLinear, load_library, packed_norm, quantized
from quire.model.torch_attention import TorchAttention

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quire.model.attention import AttentionPlan, SharedSpan, SuffixSpan

log = logging.getLogger(__name__)

FLOATS = {torch.float32, torch.bfloat16, torch.float16}


class Backend(ABC):
    """Arithmetic of one loaded model."""

    identity: str  # recorded with a module: two backends may differ in the last bits

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

    @abstractmethod
    def attention(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> AttentionPlan:
        """The plan of one pass."""


class NativeBackend(Backend):
    """Our kernels. A request's results are the same bits whatever else is in its batch, and for any thread count."""

    def __init__(self, library: Library, *, threads: int, int8: bool = False) -> None:
        """`int8`: linear layers in int8 with one scale per output; lossy."""
        self._library = library
        self._threads = threads
        self._int8 = int8
        self.identity = f"quire-{library.identity}" + ("-int8" if int8 else "")

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """What PyTorch computes between our kernels is small: on one thread it never waits at an OpenMP barrier."""
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(self._threads)

    def linear(self, layer: torch.nn.Linear) -> torch.nn.Module:
        if layer.weight.dtype not in FLOATS:
            return layer
        weight, scale = quantized(layer.weight) if self._int8 else (layer.weight, None)
        return PackedLinear(self._library, weight, layer.bias, scale, threads=self._threads)

    def norm(self, layer: torch.nn.Module) -> torch.nn.Module:
        return packed_norm(self._library, layer)

    def attention(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> AttentionPlan:
        return NativeAttention(shared, suffixes, self._library, self._threads)


class TorchBackend(Backend):
    """PyTorch's operations; on the CPU with bfloat16 weights in oneDNN's own order, so that no call repacks them."""

    identity = "torch"

    def linear(self, layer: torch.nn.Linear) -> torch.nn.Module:
        on_cpu = layer.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if on_cpu and layer.weight.dtype == torch.bfloat16:
            return OneDnnLinear(layer)
        return layer

    def attention(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> AttentionPlan:
        return TorchAttention(shared, suffixes)


class OneDnnLinear(torch.nn.Module):
    """torch.nn.Linear on a weight that oneDNN packed once: as torch.compile does for frozen weights on the CPU."""

    ROWS = 16  # the number of rows the packing is chosen for

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().clone(), self.ROWS)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: bfloat16 [..., in] -> [..., out]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


def choose_backend(name: str, device: torch.device, weights: str = "auto") -> Backend:
    """The backend called `name` ("auto", "native", "torch") for a model on `device`; `weights`: "auto" or "int8".

    Raises:
        KernelsUnavailable: "native" or int8 weights are asked for where our kernels cannot run.
    """
    int8 = weights == "int8"
    if device.type != "cpu":
        if name == "native" or int8:
            raise KernelsUnavailable(
                f"the kernels asked for run on the CPU, the model is on {device}",
                hint="set model.kernels and model.weights to auto",
            )
        return TorchBackend()
    if name == "torch" and int8:
        raise KernelsUnavailable("int8 weights need our own kernels", hint="set model.kernels to auto or native")
    if name == "torch" or (name == "auto" and not int8 and torch.cpu._is_amx_tile_supported()):
        return TorchBackend()
    try:
        return NativeBackend(load_library(), threads=torch.get_num_threads(), int8=int8)
    except KernelsUnavailable as error:
        if name == "native" or int8:
            raise
        log.warning("the fast kernels are not used: %s (%s)", error, error.hint)
        return TorchBackend()
