"""KV that a request owns: its suffix, written token by token behind the shared chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quire.core import KVGeometry, KVSegment

if TYPE_CHECKING:
    from collections.abc import Sequence

GRAIN = 64  # tokens: capacity is a multiple of this, so that short answers never reallocate

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class GrowingKV:
    """K and V of one token sequence, per layer [kv_heads, capacity, head_dim], of which `length` tokens are valid.

    Grows by doubling, so that each token is copied a constant number of times over a request's life. Over a fixed
    buffer (a mapped artifact under construction) it never grows.
    """

    def __init__(self, geometry: KVGeometry, *, device: torch.device | str = "cpu") -> None:
        self.geometry = geometry
        self.length = 0
        self._device = device
        self._fixed = False
        self.keys: Sequence[torch.Tensor] = ()
        self.values: Sequence[torch.Tensor] = ()
        self._allocate(0)

    @classmethod
    def over(cls, segment: KVSegment, geometry: KVGeometry) -> GrowingKV:
        """A buffer that writes into `segment`'s own memory and holds exactly its `token_count` tokens."""
        buffer = cls(geometry)
        buffer._fixed = True
        buffer.keys, buffer.values, buffer.capacity = segment.keys, segment.values, segment.token_count
        return buffer

    @property
    def nbytes(self) -> int:
        """Bytes reserved, used or not."""
        return self.capacity * self.geometry.bytes_per_token

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` more, keeping what is there. Mutates.

        Raises:
            ValueError: the buffer is fixed and too small.
        """
        needed = self.length + tokens
        if needed <= self.capacity:
            return
        if self._fixed:
            raise ValueError(f"a fixed buffer of {self.capacity} tokens cannot hold {needed}")
        self._allocate(max(needed, 2 * self.capacity if self.capacity < 1024 else self.capacity + 1024))

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on. Mutates."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate {self.length} tokens to {length}")
        self.length = length

    def fork(self) -> GrowingKV:
        """An independent copy of the valid tokens."""
        other = GrowingKV(self.geometry, device=self._device)
        other.reserve(self.length)
        for mine, theirs in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            theirs[:, : self.length] = mine[:, : self.length]
        other.length = self.length
        return other

    def _allocate(self, capacity: int) -> None:
        capacity = -(-capacity // GRAIN) * GRAIN
        g = self.geometry
        shape = (2, g.layers, g.kv_heads, capacity, g.head_dim)
        fresh = torch.empty(shape, dtype=TORCH_DTYPES[g.dtype], device=self._device)
        if self.length:
            for layer in range(g.layers):
                fresh[0, layer, :, : self.length] = self.keys[layer][:, : self.length]
                fresh[1, layer, :, : self.length] = self.values[layer][:, : self.length]
        self.keys, self.values = fresh[0].unbind(0), fresh[1].unbind(0)
        self.capacity = capacity
