"""Linear layers whose weights lie in the order in which the kernel reads them.

One row reads every weight once and is bound by memory; from a dozen rows on it is bound by arithmetic, 2 x rows x
weights operations. Packing puts the 32 output columns of a tile side by side, so that both run at the machine's rate
(docs/log.md has the figures beside oneDNN's).
"""

from __future__ import annotations

import torch

from quire.model.kernels.library import DTYPE_CODES, Library


class PackedLinear(torch.nn.Module):
    """y = x W^T + b, as torch.nn.Linear, in float32 arithmetic, rounded once to the dtype of x.

    Each row's result is the same bits whatever the number of rows and threads.
    """

    packed: torch.Tensor
    bias: torch.Tensor | None
    scale: torch.Tensor | None

    def __init__(
        self,
        library: Library,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
        *,
        threads: int = 1,
    ) -> None:
        """`weight`: [out, in], float32, bfloat16 or float16; or int8 with a float32 `scale` [out], see `quantized`."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._library = library
        self._threads = threads
        self._code = DTYPE_CODES[weight.dtype]
        weight = weight.contiguous()
        columns = -(-self.out_features // library.wide) * library.wide
        self.register_buffer("packed", torch.empty(columns * self.in_features, dtype=weight.dtype), persistent=False)
        library.pack(
            weight.data_ptr(),
            self._code,
            self.out_features,
            self.in_features,
            self.packed.data_ptr(),
            threads,
        )
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in] in float32, bfloat16 or float16 (with float weights: theirs) -> [..., out] in the same dtype."""
        rows = x.reshape(-1, self.in_features)
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        out = torch.empty((rows.shape[0], self.out_features), dtype=x.dtype)
        self._library.linear(
            self.packed.data_ptr(),
            self._code,
            None if self.scale is None else self.scale.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            rows.data_ptr(),
            rows.stride(0),
            out.data_ptr(),
            self.out_features,
            DTYPE_CODES[x.dtype],
            rows.shape[0],
            self.out_features,
            self.in_features,
            self._threads,
        )
        return out.view(*x.shape[:-1], self.out_features)


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round each output's weights to int8, symmetric, with one scale: weight[n] ~ int8[n] * scale[n].

    Args:
        weight: [out, in], floating point.

    Returns:
        int8 [out, in] and float32 scale [out].
    """
    values = weight.float()
    scale = values.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return torch.round(values / scale[:, None]).to(torch.int8), scale
