"""Linear layers in PyTorch's operations, and a small layer on which arithmetic is tried before it is trusted."""

from __future__ import annotations

import functools

import torch

from quire.errors import KernelsUnavailable

ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}  # of the largest result
ROWS, WIDE, DEEP = (1, 17), 33, 70  # of a try: no side is a multiple of a vector


class OneDnnLinear(torch.nn.Module):
    """torch.nn.Linear on a weight that oneDNN packed once: as torch.compile does for frozen weights on the CPU."""

    ROWS = 16  # the number of rows the packing is chosen for

    def __init__(self, layer: torch.nn.Linear) -> None:
        """Raises: RuntimeError on a processor for which oneDNN has no bfloat16 products."""
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().clone(), self.ROWS)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: bfloat16 [..., in] -> [..., out]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


class Float32Linear(torch.nn.Module):
    """torch.nn.Linear in float32, rounded once to the dtype of x, where PyTorch would emulate products of bfloat16."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight.detach().float()
        self.bias = None if layer.bias is None else layer.bias.detach().float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in] -> [..., out] in the same dtype."""
        return torch.nn.functional.linear(x.float(), self.weight, self.bias).to(x.dtype)


@functools.cache
def lack_of_packing() -> str | None:
    """Why bfloat16 weights cannot be packed by oneDNN on this processor; None where they can. Tried once."""
    plain = small_layer(torch.bfloat16)
    try:
        check_linear("packed bfloat16 weights of oneDNN", plain, OneDnnLinear(plain))
    except (RuntimeError, KernelsUnavailable) as error:
        return " ".join(str(error).split())
    return None


def small_layer(dtype: torch.dtype) -> torch.nn.Linear:
    """A layer with random weights and bias."""
    draw = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(DEEP, WIDE, dtype=dtype).requires_grad_(False)
    for numbers in (layer.weight, layer.bias):
        numbers.copy_(torch.randn(numbers.shape, generator=draw))
    return layer


def check_linear(what: str, plain: torch.nn.Linear, other: torch.nn.Module) -> None:
    """Raises: KernelsUnavailable if `other` does not compute what `plain` does."""
    for rows in ROWS:
        x = torch.randn(rows, DEEP, generator=torch.Generator().manual_seed(rows)).to(plain.weight.dtype)
        exact = x.double() @ plain.weight.double().T + plain.bias.double()
        difference = float((other(x).double() - exact).abs().max() / exact.abs().max())
        if not difference <= ALLOWED[x.dtype]:  # also refuses NaN
            raise KernelsUnavailable(
                f"{what} give wrong products on this processor: they differ by {difference:.2g}",
                hint="set model.kernels to torch, and report the processor and the compiler",
            )
