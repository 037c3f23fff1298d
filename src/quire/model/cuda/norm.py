"""Root-mean-square normalization in one launch instead of six."""

from __future__ import annotations

import torch

from quire.model.cuda import kernels
from quire.model.cuda.attention import OPTIONS, power


class TritonNorm(torch.nn.Module):
    """y = weight * x / sqrt(mean(x^2) + epsilon) over the last dimension, rounded where transformers rounds."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        """`weight`: [dim]."""
        super().__init__()
        self._weight = weight.detach().contiguous()
        self._epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., dim] in the weight's dtype -> the same shape."""
        rows = x.reshape(-1, x.shape[-1])
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
        kernels.normalize[(rows.shape[0],)](
            *(rows, self._weight, out, rows.stride(0), self._epsilon),
            DIM=rows.shape[1],
            WIDTH=power(rows.shape[1]),
            **OPTIONS,
        )
        return out.view(x.shape)
