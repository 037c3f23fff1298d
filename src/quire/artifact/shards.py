"""Where every byte of an artifact's tensors stands: a pure function of geometry, length and shard size.

Each file is plain safetensors (https://github.com/huggingface/safetensors#format): an 8-byte little-endian
header length, a JSON header, the tensors without holes. Quire adds: the header is padded with spaces to a
page, every K and V starts on a page, and the zeros between are U8 tensors ``pad.<n>``. Writer and reader
derive the same header from the same numbers, so a reader compares bytes and parses nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from quire.artifact.fields import SAFE_INTEGER, refuse
from quire.core import KVGeometry

PAGE = 4096
TOKENS_FILE = "tokens.safetensors"
DEFAULT_SHARD_BYTES = 1 << 30

SAFETENSORS_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
MAX_LAYERS = 1024
MAX_KV_HEADS = 1024
MAX_HEAD_DIM = 8192
MAX_TOKENS = 1 << 24
MAX_POSITION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """One tensor of a file. `offset` in bytes from the start of the file, not of its data section."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file, to the byte. `header` includes its length prefix; `size` is that of the whole file."""

    name: str
    header: bytes
    spans: tuple[TensorSpan, ...]
    size: int

    @property
    def tensors(self) -> tuple[TensorSpan, ...]:
        return tuple(span for span in self.spans if span.dtype != "U8")

    @property
    def pads(self) -> tuple[TensorSpan, ...]:
        return tuple(span for span in self.spans if span.dtype == "U8")


def check_geometry(geometry: KVGeometry, token_count: int, position_start: int) -> None:
    """`ManifestInvalid` unless all numbers are within the format's limits."""
    for name, value, high in (
        ("layers", geometry.layers, MAX_LAYERS),
        ("kv_heads", geometry.kv_heads, MAX_KV_HEADS),
        ("head_dim", geometry.head_dim, MAX_HEAD_DIM),
        ("token_count", token_count, MAX_TOKENS),
    ):
        if not 1 <= value <= high:
            refuse(name, f"1 to {high}", value)
    if not 0 <= position_start <= MAX_POSITION - token_count:
        refuse("position_start", f"0 to {MAX_POSITION - token_count}", position_start)
    if geometry.dtype not in SAFETENSORS_NAMES:
        refuse("dtype", f"one of {', '.join(SAFETENSORS_NAMES)}", geometry.dtype)


def layers_in_shard(geometry: KVGeometry, token_count: int, shard_bytes: int) -> int:
    """How many whole layers fit `shard_bytes`, the header not counted; at least one, at most all."""
    per_layer = 2 * _page_up(_tensor_bytes(geometry, token_count))
    return max(1, min(geometry.layers, shard_bytes // per_layer))


def plan_tokens(token_count: int) -> FilePlan:
    """``tokens.safetensors``: one int32 `token_ids` of [tokens]."""
    return _plan(TOKENS_FILE, [("token_ids", "I32", (token_count,), 4 * token_count)])


def plan_shards(geometry: KVGeometry, token_count: int, layers_per_shard: int) -> tuple[FilePlan, ...]:
    """The KV files in order. Shard n holds layers from n * layers_per_shard on."""
    dtype = SAFETENSORS_NAMES[geometry.dtype]
    shape = (geometry.kv_heads, token_count, geometry.head_dim)
    size = _tensor_bytes(geometry, token_count)
    plans = []
    for shard, first in enumerate(range(0, geometry.layers, layers_per_shard)):
        tensors: list[tuple[str, str, tuple[int, ...], int]] = []
        for layer in range(first, min(first + layers_per_shard, geometry.layers)):
            for part in ("key", "value"):
                tensors.append((f"layers.{layer}.{part}", dtype, shape, size))
                if gap := _page_up(size) - size:
                    pads = len(tensors) // 2
                    tensors.append((f"pad.{pads}", "U8", (gap,), gap))
        plans.append(_plan(f"kv-{shard:05d}.safetensors", tensors))
    return tuple(plans)


def _plan(name: str, tensors: list[tuple[str, str, tuple[int, ...], int]]) -> FilePlan:
    entries, at = {}, 0
    for tensor, dtype, shape, size in tensors:
        entries[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": (at, at + size)}
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    start = _page_up(8 + len(text))
    if start + at > SAFE_INTEGER:
        refuse(name, f"at most {SAFE_INTEGER} bytes", start + at)
    spans, offset = [], start
    for tensor, dtype, shape, size in tensors:
        spans.append(TensorSpan(tensor, dtype, shape, offset, size))
        offset += size
    header = (start - 8).to_bytes(8, "little") + text.ljust(start - 8)
    return FilePlan(name, header, tuple(spans), offset)


def _tensor_bytes(geometry: KVGeometry, token_count: int) -> int:
    return geometry.kv_heads * token_count * geometry.head_dim * geometry.itemsize


def _page_up(size: int) -> int:
    return -(-size // PAGE) * PAGE
