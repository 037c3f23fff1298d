"""Which arithmetic computes a model on this machine, found by trying it, and why it is not a faster one.

| name | computes |
|---|---|
| `native` | our own kernels for the CPU |
| `triton` | PyTorch's products, our own attention for a GPU |
| `onednn` | PyTorch with bfloat16 weights that oneDNN packed once |
| `torch` | PyTorch's operations as they are |
| `float32` | PyTorch with linear layers on float32 copies of bfloat16 weights |

The choice depends on the machine alone, never on a measurement: two starts give the same bits.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from quire.errors import KernelsUnavailable
from quire.model.kernels import Compiler, Library, PackedLinear, find_compiler, load_library
from quire.model.torch_linear import check_linear, lack_of_packing, small_layer

WORDS = {
    "native": "our own kernels",
    "triton": "PyTorch and our own Triton kernels",
    "onednn": "PyTorch on weights packed by oneDNN",
    "torch": "PyTorch",
    "float32": "PyTorch, linear layers on float32 copies of the weights",
}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What computes a model here.

    `name`: see the table above. `level`: the instruction set that our own kernels use, e.g. "AVX2"; None where they do
    not run, or were not asked for. `reason`, `hint`: why it is not the fastest arithmetic that Quire has for such a
    device, and the next step; None each where it is. `compiler`: what compiles our kernels, None where there is none.
    """

    name: str
    dtype: str
    processor: str
    level: str | None = None
    reason: str | None = None
    hint: str | None = None
    compiler: Compiler | None = None

    def __str__(self) -> str:
        """One line, for the log."""
        level = f" ({self.level})" if self.name == "native" else ""
        reason = f": {self.reason}" if self.reason else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.dtype} models are computed by {WORDS[self.name]}{level} on {self.processor}{reason}{hint}"


class Lack(NamedTuple):
    """Why something faster does not run here, and the next step if there is one."""

    reason: str
    hint: str | None


def choose_arithmetic(
    kernels: str = "auto", weights: str = "auto", device: str = "cpu", dtype: str = "bfloat16"
) -> Arithmetic:
    """What computes a model whose weights are stored in `dtype`, for the settings `model.kernels` and so on.

    The first call compiles our kernels, if they are asked for and not compiled yet (about five seconds).

    Args:
        device: one that is there, see `find_device`.

    Raises:
        KernelsUnavailable: "native" or int8 weights are asked for where our kernels cannot run.
    """
    needed = kernels == "native" or weights == "int8"
    if torch.device(device).type != "cpu":
        if needed:
            raise KernelsUnavailable(
                f"the kernels asked for run on the CPU, the model is on {device}",
                hint="set model.kernels and model.weights to auto",
            )
        return _on_a_gpu(kernels, torch.device(device), dtype)
    if kernels == "torch" and weights == "int8":
        raise KernelsUnavailable("int8 weights need our own kernels", hint="set model.kernels to auto or native")
    compiler, processor = find_compiler(), processor_name()
    if kernels == "torch":
        lack = Lack("model.kernels is torch", None)
    else:
        try:
            library = load_library()
            check_library(library, getattr(torch, dtype))
            return Arithmetic("native", dtype, processor, library.level, compiler=compiler)
        except KernelsUnavailable as error:
            if needed:
                raise
            lack = Lack(str(error), error.hint)
    name = "torch"
    if dtype == "bfloat16" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        name = "onednn"
        if unpacked := lack_of_packing():
            name, lack = "float32", Lack(f"{lack.reason}; {unpacked}", lack.hint)
    return Arithmetic(name, dtype, processor, None, lack.reason, lack.hint, compiler)


def check_library(library: Library, dtype: torch.dtype) -> None:
    """Try our kernels on a small layer.

    Raises:
        KernelsUnavailable: they give other results than PyTorch.
    """
    plain = small_layer(dtype)
    check_linear("our own kernels", plain, PackedLinear(library, plain.weight, plain.bias))


def processor_name() -> str:
    """The processor's own name, from /proc/cpuinfo where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _on_a_gpu(kernels: str, device: torch.device, dtype: str) -> Arithmetic:
    if device.type != "cuda":
        return Arithmetic("torch", dtype, str(device), reason=f"Quire has no kernels for {device.type}")
    processor = torch.cuda.get_device_name(device)
    if kernels == "torch":
        return Arithmetic("torch", dtype, processor, reason="model.kernels is torch")
    if find_spec("triton"):
        return Arithmetic("triton", dtype, processor)
    return Arithmetic("torch", dtype, processor, reason="Triton is not installed", hint="pip install triton")
