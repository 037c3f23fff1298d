"""Linear layers whose weights lie in the order in which the kernel reads them.

One row reads every weight once and is bound by memory; from some number of rows on it is bound by arithmetic,
2 x rows x weights operations. Packing puts the 32 output columns of a tile side by side, so that both run at the
machine's rate (docs/log.md has the figures beside oneDNN's).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap

import torch

from quire.model.kernels.library import DTYPE_CODES, Library, Weights


class Panels:
    """Memory for the weights of all layers of a model, one behind the other in the order in which a step reads them.

    In large pages where the system has them: a step reads everything once, and small ones cost a walk per 4 KB.
    """

    CHUNK = 64 << 20  # bytes; what is never written costs nothing

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._taken = 0

    def take(self, numbers: int, dtype: torch.dtype) -> torch.Tensor:
        """An uninitialized tensor of `numbers` > 0."""
        size = numbers * dtype.itemsize
        if self._taken + size > len(self._memory):
            self._memory, self._taken = _large_pages(max(size, self.CHUNK)), 0
        found = self._memory[self._taken : self._taken + size].view(dtype)
        self._taken += -(-size // 64) * 64
        return found


class PackedLinear(torch.nn.Module):
    """y = x W^T + b, as torch.nn.Linear, with float32 sums, rounded once to the dtype of x.

    Each row's result is the same bits whatever the number of rows and threads. With a scale, `weights` is int8.
    """

    packed: torch.Tensor
    offsets: torch.Tensor | None
    scale: torch.Tensor | None

    def __init__(
        self,
        library: Library,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        panels: Panels | None = None,
        threads: int = 1,
    ) -> None:
        """`weight`: [out, in], float32, bfloat16 or float16; or int8 with a float32 `scale` [out], see `quantized`.

        `dtype`: of the activations, where it is not that of the weight. `panels`: memory shared with other layers.
        """
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._library = library
        self._threads = threads
        weight = weight.contiguous()
        self.dtype = dtype or weight.dtype
        kind = (DTYPE_CODES[weight.dtype], library.unit_for(weight.dtype, self.dtype), *weight.shape)
        packed = (panels or Panels()).take(library.packed_size(*kind[1:]), weight.dtype)
        self.register_buffer("packed", packed, persistent=False)
        library.pack(weight.data_ptr(), *kind, self.packed.data_ptr(), threads)
        columns = -(-self.out_features // library.wide) * library.wide
        for name, numbers in (("offsets", bias), ("scale", scale)):
            self.register_buffer(name, None if numbers is None else _widened(numbers, columns), persistent=False)
        self.struct = Weights(
            self.packed.data_ptr(),
            *(None if numbers is None else numbers.data_ptr() for numbers in (self.scale, self.offsets)),
            *kind,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in] in `dtype` -> [..., out] in the same."""
        if x.dtype != self.dtype:
            raise TypeError(f"expected activations in {self.dtype}, found {x.dtype}")
        rows = x.reshape(-1, self.in_features)
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        out = torch.empty((rows.shape[0], self.out_features), dtype=x.dtype)
        self._library.linear(
            ctypes.byref(self.struct),
            rows.data_ptr(),
            rows.stride(0),
            out.data_ptr(),
            self.out_features,
            DTYPE_CODES[self.dtype],
            rows.shape[0],
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


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """The numbers that `quantized` keeps of `weight`, in float32."""
    kept, scale = quantized(weight)
    return kept.float() * scale[:, None]


def _large_pages(size: int) -> torch.Tensor:
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


def _widened(numbers: torch.Tensor, columns: int) -> torch.Tensor:
    """In float32, one for every column of the panels."""
    return torch.nn.functional.pad(numbers.detach().float(), (0, columns - len(numbers)))
