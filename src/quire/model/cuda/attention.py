"""Attention plans for a GPU: tables sent once per pass, then three or four launches per layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from quire.model.attention import AttentionPlan
from quire.model.cuda import kernels
from quire.model.cuda.tables import KEYS, NAMES, NARROW, Tables, make_tables
from quire.model.sending import send

if TYPE_CHECKING:
    from quire.core import KVGeometry
    from quire.model.attention import SharedSpan, SuffixSpan

PIECES_PER_CORE = 2  # programs at once on one multiprocessor: a guess that no GPU has confirmed yet
OPTIONS = {"enable_fp_fusion": True}  # said outright: its default changes between versions of Triton
USUAL_BYTES = 256  # of a key, 128 numbers of 16 bits: for it 128 rows and 64 keys fit
PLENTY = 160 << 10  # bytes of fast memory of an A100 or larger
INTERPRETED_CORES = 4  # where there is no GPU: enough that ranges are cut


@dataclass(slots=True)
class Launches:
    """Tables on the device, the room for partial results, and the launches that use them.

    The views of `tables` have fixed places and lengths, so all of it may be captured; what the lengths leave unused is
    padding: pieces of work without rows, tokens without targets and entries.
    """

    geometry: KVGeometry
    tables: dict[str, torch.Tensor]
    wide_rows: int
    partial: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    weights: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def run(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """As `AttentionPlan.run`."""
        q, k, v = (t if t.stride(2) == 1 else t.contiguous() for t in (q, k, v))
        heads, tokens, dim = q.shape
        kv_heads, layers = self.geometry.kv_heads, self.geometry.layers
        shape = {"DIM": dim, "WIDTH": max(16, power(dim)), **OPTIONS}
        tables, group = self.tables, heads // kv_heads
        kernels.store[(tokens, kv_heads)](
            *(k, v, tables["targets"], tables["addresses"], layer, layers),
            *(k.stride(0), k.stride(1), v.stride(0), v.stride(1)),
            **shape,
        )
        rows_in_all = self.partial.shape[1]
        for name, rows in (("narrow", NARROW), ("wide", self.wide_rows)):
            if works := tables[name].shape[0] // 8:
                kernels.attend[(works, kv_heads)](
                    *(q, tables[name], tables["addresses"], self.partial, self.weights),
                    *(layer, layers, rows_in_all, scale * math.log2(math.e), q.stride(0), q.stride(1)),
                    **shape,
                    GROUP=group,
                    ROWS=rows,
                    KEYS=keys_at_once(self.geometry),
                    WIDEN=q.dtype == torch.float32 or kernels.INTERPRETED,
                    num_warps=8 if rows > 64 else 4,
                    num_stages=stages(q.device),
                )
        out = torch.empty((tokens, heads, dim), dtype=q.dtype, device=q.device)
        kernels.merge[(tokens, kv_heads)](
            *(self.partial, self.weights, tables["offsets"], tables["entries"], out, rows_in_all),
            **shape,
            GROUP=group,
            GROUP_WIDTH=power(group),
        )
        return out

    def make_room(self, rows: int, device: torch.device) -> None:
        """Allocate places for `rows` partial results of each KV head. Mutates."""
        shape = (self.geometry.kv_heads, rows)
        self.partial = torch.empty((*shape, self.geometry.head_dim), dtype=torch.float32, device=device)
        self.weights = torch.empty(shape, dtype=torch.float32, device=device)


class TritonAttention(AttentionPlan):
    """The plan of one pass of any shape, on the device where the model is."""

    def __init__(self, shared: list[SharedSpan], suffixes: list[SuffixSpan]) -> None:
        super().__init__(shared, suffixes)
        self._launches: Launches | None = None

    def run(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        if self._launches is None:
            self._launches = self._prepare(q)
        return self._launches.run(layer, q, k, v, scale)

    def _prepare(self, q: torch.Tensor) -> Launches:
        geometry = self.suffixes[0].kv.geometry
        group = q.shape[0] // geometry.kv_heads
        rows = wide_rows(group, q.shape[1], geometry)
        tables = make_tables(self.shared, self.suffixes, group=group, wide_rows=rows, pieces=pieces(geometry, q.device))
        launches = Launches(geometry, views(send(flat(tables), q.device), tables.sizes()), rows)
        launches.make_room(tables.rows, q.device)
        return launches


def pieces(geometry: KVGeometry, device: torch.device) -> int:
    """Pieces of work, for one KV head, that occupy `device`."""
    cores = INTERPRETED_CORES
    if device.type == "cuda":
        cores = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, cores * PIECES_PER_CORE // geometry.kv_heads)


def wide_rows(group: int, tokens: int, geometry: KVGeometry) -> int:
    """Rows of a wide piece of work in a pass of `tokens`: as many as a multiprocessor's fast memory holds."""
    most = 128 * USUAL_BYTES // _key_bytes(geometry)
    return max(power(group), min(most, max(2 * NARROW, power(group * tokens))))


def keys_at_once(geometry: KVGeometry) -> int:
    """Keys of one step of the kernel's loop, for the same reason."""
    return max(16, KEYS * USUAL_BYTES // _key_bytes(geometry))


def stages(device: torch.device) -> int:
    """Steps of that loop whose keys and values are fetched at once."""
    if device.type != "cuda":
        return 1
    held = getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 0)
    return 3 if held >= PLENTY else 2


def _key_bytes(geometry: KVGeometry) -> int:
    return max(USUAL_BYTES, power(geometry.head_dim) * geometry.itemsize)


def flat(tables: Tables, sizes: dict[str, int] | None = None) -> np.ndarray:
    """All tables behind one another, each padded to its place in `sizes`.

    Raises:
        ValueError: a table is larger than its place.
    """
    sizes = sizes or tables.sizes()
    out = np.zeros(sum(sizes.values()), dtype=np.int64)
    at = 0
    for name in NAMES:
        values = tables.arrays[name].reshape(-1)
        if values.size > sizes[name]:
            raise ValueError(f"{name} takes {values.size} numbers, there is room for {sizes[name]}")
        out[at : at + values.size] = values
        at += sizes[name]
    return out


def views(buffer: torch.Tensor, sizes: dict[str, int]) -> dict[str, torch.Tensor]:
    """The tables in `buffer`, by name."""
    return dict(zip(NAMES, torch.split(buffer, [sizes[name] for name in NAMES]), strict=True))


def power(number: int) -> int:
    """The least power of two that is no less."""
    return 1 << max(0, number - 1).bit_length()
