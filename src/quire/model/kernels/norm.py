"""Root-mean-square normalization in one call instead of six (Zhang and Sennrich, arXiv 1910.07467)."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch

from quire.model.kernels.library import DTYPE_CODES, Library
from quire.model.kernels.rounding import WIDER, as_exact


class PackedNorm(torch.nn.Module):
    """y = weight * x / sqrt(mean(x^2) + epsilon) over the last dimension."""

    def __init__(
        self, library: Library, weight: torch.Tensor, epsilon: float, plain: torch.nn.Module | None = None
    ) -> None:
        """`weight`: [dim] in float32, bfloat16 or float16. `plain`: normalizes what is in another dtype."""
        super().__init__()
        self.plain = plain
        self._library = library
        self._weight = weight.detach().contiguous()
        self._epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., dim] -> the same shape."""
        if x.dtype != self._weight.dtype and self.plain:
            result: torch.Tensor = self.plain(x)
            return result
        rows = x.reshape(-1, x.shape[-1])
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        out = torch.empty(rows.shape, dtype=x.dtype)
        self._library.norm(
            rows.data_ptr(),
            rows.stride(0),
            self._weight.data_ptr(),
            self._epsilon,
            out.data_ptr(),
            DTYPE_CODES[x.dtype],
            *rows.shape,
        )
        return out.view(x.shape)


def packed_norm(library: Library, norm: torch.nn.Module) -> torch.nn.Module:
    """A `PackedNorm` for `norm`, or `norm` itself."""
    return replaced_norm(norm, lambda weight, epsilon: PackedNorm(library, weight, epsilon, norm))


def replaced_norm(norm: torch.nn.Module, make: Callable[[torch.Tensor, float], torch.nn.Module]) -> torch.nn.Module:
    """What `make` gives for the weight and epsilon of `norm`, if a try with random numbers shows the same; else `norm`.

    Families give the same name to other formulas, e.g. with weights around zero, without any, or with a gate.
    """
    weight, epsilon = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if not isinstance(weight, torch.Tensor) or weight.dtype not in WIDER or not isinstance(epsilon, float):
        return norm
    if weight.dim() != 1 or len(inspect.signature(norm.forward).parameters) != 1:
        return norm
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(8, weight.shape[0], generator=draw) + 0.5 * torch.randn(8, 1, generator=draw)
    x = (x * torch.logspace(-4, 2, 8)[:, None]).to(weight)
    wider = {name: value.to(WIDER[weight.dtype]) for name, value in norm.named_parameters()}
    made = make(weight, epsilon)
    try:
        with torch.no_grad():
            exact = torch.func.functional_call(norm, wider, (x.to(WIDER[x.dtype]),))
            return made if as_exact(made(x), norm(x), exact) else norm
    except (RuntimeError, TypeError, ValueError, LookupError):  # its code takes rows of another form
        return norm
