"""Root-mean-square normalization in one call instead of six (Zhang and Sennrich, arXiv 1910.07467)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from quire.model.kernels.library import DTYPE_CODES, Library

MOST_DIFFERENT = {
    torch.float32: 1e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 2e-3,
}  # of the largest result: two roundings


class PackedNorm(torch.nn.Module):
    """y = weight * x / sqrt(mean(x^2) + epsilon) over the last dimension."""

    def __init__(self, library: Library, weight: torch.Tensor, epsilon: float) -> None:
        """`weight`: [dim] in float32, bfloat16 or float16."""
        super().__init__()
        self._library = library
        self._weight = weight.detach().contiguous()
        self._epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., dim] in the weight's dtype -> the same shape."""
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
    return replaced_norm(norm, lambda weight, epsilon: PackedNorm(library, weight, epsilon))


def replaced_norm(norm: torch.nn.Module, make: Callable[[torch.Tensor, float], torch.nn.Module]) -> torch.nn.Module:
    """What `make` gives for the weight and epsilon of `norm`, if a try with random numbers shows the same; else `norm`.

    Families give the same name to slightly different formulas, e.g. with weights around zero.
    """
    weight, epsilon = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if not isinstance(weight, torch.Tensor) or weight.dtype not in MOST_DIFFERENT or not isinstance(epsilon, float):
        return norm
    x = torch.randn(4, weight.shape[0], generator=torch.Generator().manual_seed(0)).to(weight) * 3
    made = make(weight, epsilon)
    with torch.no_grad():
        expected = norm(x)
    difference = (made(x).float() - expected.float()).abs().max() / expected.float().abs().max()
    return made if expected.dtype == x.dtype and float(difference) <= MOST_DIFFERENT[x.dtype] else norm
