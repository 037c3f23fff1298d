"""An attention plan in the form the kernel reads: ranges of keys, pieces of work, partial results to merge."""

from __future__ import annotations

import ctypes

import numpy as np
import torch

from quire.model.attention import AttentionPlan, SharedSpan, SuffixSpan
from quire.model.kernels.library import DTYPE_CODES, Library
from quire.model.kv import TORCH_DTYPES, layer_addresses

_SIZE = ctypes.c_int64
_ADDRESS = ctypes.c_void_p


class Attention(ctypes.Structure):
    """`struct Attention` of kernels.cpp."""

    _fields_ = [
        *[(name, _SIZE) for name in ("tokens", "heads", "kv_heads", "dim", "dtype", "threads")],
        *[(name, _SIZE) for name in ("ranges", "works", "layers")],
        ("scale", ctypes.c_float),
        *[(name, _ADDRESS) for name in ("range", "work", "addresses", "parts", "part_of", "partial", "weight")],
    ]


class NativeAttention(AttentionPlan):
    """The plan of one pass on the CPU. Work is cut by keys and rows, never by the number of requests or threads."""

    def __init__(self, shared: list[SharedSpan], suffixes: list[SuffixSpan], library: Library, threads: int) -> None:
        super().__init__(shared, suffixes)
        self._library = library
        self._threads = threads
        self._struct: Attention | None = None
        self._kept: list[object] = []  # arrays that the struct points into
        self._strides = (_SIZE * 6)()

    def run(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        q, k, v = (t if t.stride(2) == 1 else t.contiguous() for t in (q, k, v))
        heads, tokens, dim = q.shape
        prepared = self.prepare(heads, tokens, dim, scale)
        self._strides[:] = [t.stride(i) for t in (q, k, v) for i in (1, 0)]
        out = torch.empty((tokens, heads, dim), dtype=q.dtype)
        self._library.attend(
            ctypes.addressof(prepared),
            layer,
            q.data_ptr(),
            k.data_ptr(),
            v.data_ptr(),
            ctypes.addressof(self._strides),
            out.data_ptr(),
        )
        return out

    def prepare(self, heads: int, tokens: int, dim: int, scale: float) -> Attention:
        """The plan as the kernels read it; for all layers the same but for the scale."""
        if self._struct is None:
            self._struct = self._prepared(heads, tokens, dim)
        self._struct.scale = scale
        return self._struct

    def _prepared(self, heads: int, tokens: int, dim: int) -> Attention:
        geometry = self.suffixes[0].kv.geometry
        split = self._library.split
        ranges = self._ranges()
        works = _works(ranges, heads // geometry.kv_heads, geometry.kv_heads, split, self._library.chunk)
        parts, part_of = self._parts(ranges, tokens)
        addresses = self.addresses()
        padded = -(-dim // self._library.wide) * self._library.wide
        rows = int((ranges[:, 5] + -(-ranges[:, 2] // split)).max()) * heads * tokens
        partial = torch.empty(rows * padded, dtype=torch.float32)
        weight = torch.empty(rows * 2, dtype=torch.float32)
        self._kept = [ranges, works, addresses, parts, part_of, partial, weight]
        return Attention(
            *(tokens, heads, geometry.kv_heads, dim, DTYPE_CODES[TORCH_DTYPES[geometry.dtype]]),
            *(self._threads, len(ranges), len(works), geometry.layers, 0.0),
            *(array.ctypes.data for array in (ranges, works, addresses, parts, part_of)),
            *(partial.data_ptr(), weight.data_ptr()),
        )

    def addresses(self) -> np.ndarray:
        """Where the keys and values of every range begin, the shared ones first: int64 [ranges, layers, 2]."""
        shared = [layer_addresses(s.segment) for s in self.shared]
        return np.stack([*shared, *(layer_addresses(s.kv) for s in self.suffixes)])

    def _ranges(self) -> np.ndarray:
        """`struct Range` as int64 [ranges, 7], the shared ones first."""
        split = self._library.split
        depth_parts = [0] * (self.depth + 1)
        for s in self.shared:
            depth_parts[s.depth + 1] = max(depth_parts[s.depth + 1], -(-s.segment.token_count // split))
        base = np.cumsum(depth_parts)
        rows = [
            (s.start, s.end, s.segment.token_count, -1, s.segment.keys[0].stride(0), base[s.depth], i)
            for i, s in enumerate(self.shared)
        ]
        rows += [
            (s.start, s.end, s.before + s.end - s.start, s.before, s.kv.keys[0].stride(0), base[-1], i)
            for i, s in enumerate(self.suffixes, start=len(rows))
        ]
        return np.array(rows, dtype=np.int64)

    def _parts(self, ranges: np.ndarray, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """For every token its partial results, by depth and then by keys: offsets [tokens + 1], indices."""
        counts = np.zeros(tokens + 1, dtype=np.int64)
        splits = -(-ranges[:, 2] // self._library.split)
        for first, last, count in zip(ranges[:, 0], ranges[:, 1], splits, strict=True):
            counts[first + 1 : last + 1] += count
        offsets = np.cumsum(counts)
        part_of = np.empty(offsets[-1], dtype=np.int64)
        filled = offsets[:-1].copy()
        by_part = np.argsort(ranges[:, 5], kind="stable")
        for first, last, part, count in zip(*ranges[by_part][:, [0, 1, 5]].T, splits[by_part], strict=True):
            here = filled[first:last]
            for i in range(count):
                part_of[here + i] = part + i
            filled[first:last] += count
        return offsets, part_of


def _works(ranges: np.ndarray, group: int, kv_heads: int, split: int, chunk: int) -> np.ndarray:
    """`struct Work` as int32 [works, 4]: every (range, head, split, chunk of rows)."""
    splits = -(-ranges[:, 2] // split)
    chunks = -(-(ranges[:, 1] - ranges[:, 0]) * group // chunk)
    counts = kv_heads * splits * chunks
    of = np.repeat(np.arange(len(ranges)), counts)
    nth = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    head, rest = np.divmod(nth, (splits * chunks)[of])
    return np.ascontiguousarray(np.stack([of, head, *np.divmod(rest, chunks[of])], axis=1), dtype=np.int32)
