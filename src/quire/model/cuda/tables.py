"""An attention plan in the numbers that the kernels read, made on the host once per pass.

    targets    where each new token's key and value go       (source + 1, position, stride), 0: nowhere
    narrow     pieces of work of up to 16 query rows         (rows, first token, source, begin, end, sees, stride, slot)
    wide       pieces of work of more rows                   the same
    offsets    for each token, where its entries begin
    entries    places of its partial results
    addresses  of every source's keys and values, by layer

A *source* is a shared segment or a suffix; its key i of KV head h begins at address + (h x stride + i) x head_dim. A
piece of work is a few tokens against keys `begin` to `end` of one source, of which its first token sees `sees`, and
each one after it one more. Its results take `rows` places from `slot` on, for each KV head.

Work is cut by keys so that a pass with few rows still occupies the whole device (flash decoding, arXiv 2311.01282), and
no finer than that: every cut costs one more partial result per row, written and read again in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quire.model.kv import layer_addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import KVSegment
    from quire.model.attention import SharedSpan, SuffixSpan
    from quire.model.kv import GrowingKV

NARROW = 16  # rows of the smallest matrix product there is
KEYS = 64  # pieces of work are multiples of
LEAST_KEYS = 256  # of one piece of work: less is mostly overhead
ALIGNMENT = 16  # bytes that an address must be a multiple of

NAMES = ("targets", "narrow", "wide", "offsets", "entries", "addresses")


@dataclass(frozen=True, slots=True)
class Tables:
    """All of it as int64, by name, and how many places for partial results it needs."""

    arrays: dict[str, np.ndarray]
    rows: int

    def sizes(self) -> dict[str, int]:
        """Numbers of each, rounded up so that all begin at multiples of 16 bytes: else kernels are compiled twice."""
        return {name: even(self.arrays[name].size) for name in NAMES}


def even(number: int) -> int:
    """The least even number that is no less."""
    return number + number % 2


def make_tables(
    shared: Sequence[SharedSpan], suffixes: Sequence[SuffixSpan], *, group: int, wide_rows: int, pieces: int
) -> Tables:
    """What the kernels need for one pass.

    Args:
        group: query heads of one KV head.
        wide_rows: rows of a wide piece of work.
        pieces: of work that occupy the device, for one KV head.
    """
    tokens = suffixes[-1].end
    ranges = _ranges(shared, suffixes)
    is_narrow = (ranges[:, 1] - ranges[:, 0]) * group <= NARROW
    narrow = _works(ranges[is_narrow], group, NARROW, pieces)
    wide = _works(ranges[~is_narrow], group, wide_rows, pieces)
    works = np.concatenate([narrow, wide])
    works[:, 7] = np.cumsum(works[:, 0]) - works[:, 0]
    offsets, entries = _entries(works, group, tokens)
    arrays = {
        "targets": _targets(ranges[len(shared) :]),
        "narrow": works[: len(narrow)],
        "wide": works[len(narrow) :],
        "offsets": offsets,
        "entries": entries,
        "addresses": _addresses([*(s.segment for s in shared), *(s.kv for s in suffixes)]),
    }
    return Tables(arrays, int(works[:, 0].sum()))


def _ranges(shared: Sequence[SharedSpan], suffixes: Sequence[SuffixSpan]) -> np.ndarray:
    """(start, end, keys, before, stride, source) of every source; before -1: all keys stand before all tokens."""
    rows = [(s.start, s.end, s.segment.token_count, -1, _stride(s.segment), i) for i, s in enumerate(shared)]
    rows += [
        (s.start, s.end, s.before + s.end - s.start, s.before, _stride(s.kv), i)
        for i, s in enumerate(suffixes, start=len(shared))
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 6)


def _works(ranges: np.ndarray, group: int, most_rows: int, pieces: int) -> np.ndarray:
    """Pieces of work [works, 8], their slots still zero. No token's rows stand in two pieces of the same keys."""
    start, end, keys, before, stride, source = ranges.T
    per_chunk = most_rows // group
    chunks = -(-(end - start) // per_chunk)
    fair = -(-int((chunks * keys).sum()) // pieces)
    length = max(LEAST_KEYS, -(-fair // KEYS) * KEYS)
    splits = -(-keys // length)
    of = np.repeat(np.arange(len(ranges)), chunks * splits)
    nth = np.arange(len(of)) - np.repeat(np.cumsum(chunks * splits) - chunks * splits, chunks * splits)
    split, chunk = np.divmod(nth, chunks[of])
    first = chunk * per_chunk
    last = np.minimum(first + per_chunk, (end - start)[of])
    causal = before[of] >= 0
    stop = np.minimum((split + 1) * length, np.where(causal, before[of] + last, keys[of]))
    sees = np.where(causal, before[of] + first + 1, keys[of])
    rows = (last - first) * group
    zeros = np.zeros_like(rows)
    columns = [rows, start[of] + first, source[of], split * length, stop, sees, stride[of], zeros]
    works: np.ndarray = np.stack(columns, axis=1)[
        stop > split * length
    ]  # the rest stands after all of the piece's tokens
    return works


def _entries(works: np.ndarray, group: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """For every token the places of its partial results: offsets [tokens + 1], and the places."""
    counts = works[:, 0] // group
    nth = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    token = np.repeat(works[:, 1], counts) + nth
    place = np.repeat(works[:, 7], counts) + nth * group
    offsets = np.zeros(tokens + 1, dtype=np.int64)
    offsets[1:] = np.cumsum(np.bincount(token, minlength=tokens))
    return offsets, place[np.argsort(token, kind="stable")]


def _stride(source: KVSegment | GrowingKV) -> int:
    """Tokens from one KV head to the next."""
    return int(source.keys[0].stride(0)) // source.keys[0].shape[2]


def _targets(suffixes: np.ndarray) -> np.ndarray:
    """(source + 1, position, stride) of every token. `suffixes`: their ranges, one after another over all tokens."""
    start, end, _keys, before, stride, source = suffixes.T
    counts = end - start
    nth = np.arange(end[-1]) - np.repeat(start, counts)
    return np.stack([np.repeat(source + 1, counts), np.repeat(before, counts) + nth, np.repeat(stride, counts)], axis=1)


def _addresses(sources: Sequence[KVSegment | GrowingKV]) -> np.ndarray:
    """[sources, layers, 2]."""
    addresses = np.stack([layer_addresses(source) for source in sources])
    if (addresses % ALIGNMENT).any():
        raise ValueError(f"keys and values must begin at multiples of {ALIGNMENT} bytes")
    return addresses
