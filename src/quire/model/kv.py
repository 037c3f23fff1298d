"""KV that a request owns: its suffix, written token by token behind the shared chain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from quire.core import KVGeometry, KVSegment
from quire.model.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Sequence

GRAIN = 64  # tokens: capacity is a multiple of this, so that short answers never reallocate

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


class KVSpaceFull(Exception):
    """A space has no room for what was asked of it. A signal to make room; no caller of an engine sees it."""


class KVSpace:
    """Room for the suffixes of many requests, allocated once: `capacity` tokens, a multiple of GRAIN.

    Memory is [2 (K, V), layers, kv_heads, capacity, head_dim]. On a CPU a page costs nothing until it is first written,
    and low addresses are used first, so the process grows to what was needed at once and not to `capacity`.
    Not thread-safe: it belongs to the engine's thread.
    """

    def __init__(self, geometry: KVGeometry, tokens: int, *, device: torch.device | str = "cpu") -> None:
        """`tokens` are rounded up to a multiple of GRAIN. Raises: RuntimeError (torch) if memory does not do."""
        self.geometry = geometry
        self.device = device
        self._spans = Spans(-(-tokens // GRAIN))
        self._memory = _memory(geometry, self.capacity, device)

    @property
    def capacity(self) -> int:
        """Tokens in all."""
        return self._spans.size * GRAIN

    @property
    def used(self) -> int:
        """Tokens in regions that are taken, written or not."""
        return self._spans.used * GRAIN

    def region(self, start: int, tokens: int) -> torch.Tensor:
        """[2, layers, kv_heads, tokens, head_dim], a view from token `start` on."""
        return self._memory.narrow(3, start, tokens)

    def resize(self, start: int, tokens: int, wanted: int, *, keep: int) -> int | None:
        """Make the region of `tokens` at `start` one of `wanted`, all multiples of GRAIN, and keep its first `keep`.

        `tokens` 0: a new region; `wanted` 0: give it back. Returns where it starts now; None where there is no room,
        and then nothing has changed. Mutates.
        """
        old, new = tokens // GRAIN, wanted // GRAIN
        if not new:
            if old:
                self._spans.give(start // GRAIN, old)
            return 0
        found = self._spans.resize(start // GRAIN, old, new) if old else self._spans.take(new)
        if found is None:
            return None
        target = found * GRAIN
        if keep and target != start:
            overlapping = abs(target - start) < keep
            _copy(self.region(start, keep), self.region(target, keep), overlapping=overlapping)
        return target


class GrowingKV:
    """K and V of one token sequence, per layer [kv_heads, capacity, head_dim], of which `length` tokens are valid.

    Grows by doubling, so that each token is copied a constant number of times over a request's life. It owns its
    memory, or has a region of `space`, which may lie elsewhere after growing. Over a fixed buffer (a mapped artifact
    under construction) it never grows.
    """

    def __init__(
        self, geometry: KVGeometry, *, space: KVSpace | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """`device`: of its own memory, where it has no space."""
        self.geometry = geometry
        self.length = 0
        self.capacity = 0
        self._space = space
        self._start = 0
        self._device = device
        self._fixed = False
        self._addresses: np.ndarray | None = None
        self._memory: torch.Tensor | None = None  # of which keys and values are views; None over a fixed buffer
        self.keys: Sequence[torch.Tensor] = ()
        self.values: Sequence[torch.Tensor] = ()
        self._resize(0)

    @classmethod
    def over(cls, segment: KVSegment, geometry: KVGeometry) -> GrowingKV:
        """A buffer that writes into `segment`'s own memory and holds exactly its `token_count` tokens."""
        buffer = cls(geometry)
        buffer._fixed, buffer._memory = True, None
        buffer.keys, buffer.values, buffer.capacity = segment.keys, segment.values, segment.token_count
        buffer._addresses = None
        return buffer

    @property
    def nbytes(self) -> int:
        """Bytes reserved, used or not."""
        return self.capacity * self.geometry.bytes_per_token

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` more, keeping what is there: twice what there was, or as little as will do. Mutates.

        Raises:
            KVSpaceFull: its space has no room for them; nothing has changed.
            ValueError: the buffer is fixed and too small.
        """
        needed = self.length + tokens
        if needed <= self.capacity:
            return
        if self._fixed:
            raise ValueError(f"a fixed buffer of {self.capacity} tokens cannot hold {needed}")
        ahead = min(self.capacity, 1024)
        if not (self._resize(max(needed, self.capacity + ahead)) or self._resize(needed)):
            raise KVSpaceFull(f"no {needed} tokens in a row are free")

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on. Mutates."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate {self.length} tokens to {length}")
        self.length = length

    def trim(self) -> None:
        """Give back the room that no valid token needs. Mutates."""
        self._resize(self.length)

    def release(self) -> None:
        """Forget all tokens and give all room back. May be called twice. Mutates."""
        self.length = 0
        self._resize(0)

    def copy(self, other: GrowingKV, length: int) -> None:
        """Take over the first `length` tokens of `other` in place of its own. Raises as `reserve`. Mutates."""
        self.begin(other.head(length))

    def head(self, tokens: int) -> torch.Tensor:
        """[2, layers, kv_heads, tokens, head_dim], a view of the first `tokens`. ValueError: the buffer is fixed."""
        if self._memory is None:
            raise ValueError("a fixed buffer has the layers of a file, and no memory of its own")
        return self._memory.narrow(3, 0, tokens)

    def begin(self, head: torch.Tensor) -> None:
        """Take over tokens, as `head` gives them, in place of its own. Raises as `reserve` and `head`. Mutates."""
        self.length = 0
        self.reserve(tokens := head.shape[3])
        _copy(head, self.head(tokens))
        self.length = tokens

    def write_to(self, segment: KVSegment) -> None:
        """Copy the valid tokens into `segment`'s memory, which holds exactly as many. Mutates the segment."""
        for there, here in zip((*segment.keys, *segment.values), (*self.keys, *self.values), strict=True):
            there.copy_(here[:, : self.length])

    @property
    def addresses(self) -> np.ndarray:
        """As `layer_addresses`, found again only after growing."""
        if self._addresses is None:
            self._addresses = _addresses(self.keys, self.values)
        return self._addresses

    def fork(self) -> GrowingKV:
        """An independent copy of the valid tokens. Raises as `reserve`."""
        other = GrowingKV(self.geometry, space=self._space, device=self._device)
        other.copy(self, self.length)
        return other

    def _resize(self, tokens: int) -> bool:
        """Whether there is room for `tokens`; then it is taken, with the valid tokens in it."""
        capacity = -(-tokens // GRAIN) * GRAIN
        if self._space:
            start = self._space.resize(self._start, self.capacity, capacity, keep=self.length)
            if start is None:
                return False
            self._start, memory = start, self._space.region(start, capacity)
        else:
            memory = _memory(self.geometry, capacity, self._device)
            if self.length:
                _copy(self.head(self.length), memory.narrow(3, 0, self.length))
        self.keys, self.values = memory[0].unbind(0), memory[1].unbind(0)
        self._memory, self.capacity = memory, capacity
        self._addresses = None
        return True


def on_device(segment: KVSegment, device: torch.device) -> KVSegment:
    """`segment` itself where it lies on `device`, else a copy there, made before this returns."""
    if segment.keys[0].device.type == device.type:
        return segment
    keys, values = (tuple(t.to(device) for t in side) for side in (segment.keys, segment.values))
    return replace(segment, keys=keys, values=values)


def layer_addresses(source: KVSegment | GrowingKV) -> np.ndarray:
    """Where each layer's keys and values begin: int64 [layers, 2]."""
    return source.addresses if isinstance(source, GrowingKV) else _addresses(source.keys, source.values)


def _addresses(keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> np.ndarray:
    return np.array([(k.data_ptr(), v.data_ptr()) for k, v in zip(keys, values, strict=True)], dtype=np.int64)


def _copy(here: torch.Tensor, there: torch.Tensor, *, overlapping: bool = False) -> None:
    """`here` to `there`, both [2, layers, ...]. Mutates `there`.

    Layer by layer: what lies between stays small where they overlap, and a larger copy would wake PyTorch's threads,
    which take the cores from ours for a while.
    """
    for source, target in zip(here.unbind(1), there.unbind(1), strict=True):
        target.copy_(source.clone() if overlapping else source)


def _memory(geometry: KVGeometry, tokens: int, device: torch.device | str) -> torch.Tensor:
    shape = (2, geometry.layers, geometry.kv_heads, tokens, geometry.head_dim)
    return torch.empty(shape, dtype=TORCH_DTYPES[geometry.dtype], device=device)
