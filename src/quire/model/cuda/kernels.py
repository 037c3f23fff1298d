"""The arithmetic on a GPU, in Triton: attention over ranges of keys, its exact merge, the store of new KV, norms.

Nothing here depends on Python values that change from step to step: ranges, lengths and addresses are read from device
memory (`tables` says how they lie there), so a launch that was captured in a graph is valid for later steps. A program
that finds no work ends at once; that is what padding is.

Softmax is taken in base 2, so weights are base-2 log-sum-exps.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

INTERPRETED = bool(knobs.runtime.interpret)  # kernels run as Python on the CPU: TRITON_INTERPRET=1

STEPWISE = ["layer", "layers", "rows_in_all"]  # arguments that a kernel must not be compiled anew for


@triton.jit(do_not_specialize=STEPWISE)
def store(
    k, v, targets, addresses, layer, layers, k_head, k_token, v_head, v_token, DIM: tl.constexpr, WIDTH: tl.constexpr
):
    """Write one new token's key and value of one KV head into its suffix. Grid: (tokens, kv_heads)."""
    token, head = tl.program_id(0), tl.program_id(1)
    source = tl.load(targets + token * 3) - 1
    if source < 0:
        return
    position, stride = tl.load(targets + token * 3 + 1), tl.load(targets + token * 3 + 2)
    column = tl.arange(0, WIDTH)
    held = column < DIM
    address = addresses + (source * layers + layer) * 2
    at = (head * stride + position) * DIM + column
    keys = tl.load(address).to(tl.pointer_type(k.dtype.element_ty))
    values = tl.load(address + 1).to(tl.pointer_type(v.dtype.element_ty))
    tl.store(keys + at, tl.load(k + head * k_head + token * k_token + column, mask=held), mask=held)
    tl.store(values + at, tl.load(v + head * v_head + token * v_token + column, mask=held), mask=held)


@triton.jit(do_not_specialize=STEPWISE)
def attend(
    q,
    works,
    addresses,
    partial,
    weights,
    layer,
    layers,
    rows_in_all,
    scale,
    q_head,
    q_token,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Attention of up to ROWS query rows over one piece of one range of keys. Grid: (works, kv_heads).

    The query heads of a group read the same keys: they are rows of one product, token by token.

    Args:
        partial: float32 [kv_heads, rows_in_all, DIM]; weights: float32 [kv_heads, rows_in_all].
        scale: of the scores, times log2(e).
        WIDEN: multiply in float32, for float32 keys and where 16-bit products are not to be had.
    """
    work = works + tl.program_id(0) * 8
    head = tl.program_id(1)
    rows = tl.load(work).to(tl.int32)
    if rows == 0:
        return
    first_token, source = tl.load(work + 1), tl.load(work + 2)
    begin, end = tl.load(work + 3).to(tl.int32), tl.load(work + 4).to(tl.int32)
    sees, stride, slot = tl.load(work + 5).to(tl.int32), tl.load(work + 6), tl.load(work + 7)
    row, column, offset = tl.arange(0, ROWS), tl.arange(0, WIDTH), tl.arange(0, KEYS)
    live, held = row < rows, column < DIM
    token, query_head = first_token + row // GROUP, head * GROUP + row % GROUP
    query = tl.load(
        q + (token * q_token + query_head * q_head)[:, None] + column[None, :],
        mask=live[:, None] & held[None, :],
        other=0.0,
    )
    address = addresses + (source * layers + layer) * 2
    # Memory of ours begins at multiples of 16 bytes, which the compiler cannot know of an address it loads.
    keys = tl.multiple_of(tl.load(address).to(tl.pointer_type(q.dtype.element_ty)), 16) + head * stride * DIM
    values = tl.multiple_of(tl.load(address + 1).to(tl.pointer_type(q.dtype.element_ty)), 16) + head * stride * DIM
    seen = sees + row // GROUP  # by each row: this many keys from the first of the range
    if WIDEN:
        query = query.to(tl.float32)
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    output = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(begin, end, KEYS):
        at = first + offset
        inside = at < end
        key = tl.load(keys + at[None, :] * DIM + column[:, None], mask=inside[None, :] & held[:, None], other=0.0)
        value = tl.load(values + at[:, None] * DIM + column[None, :], mask=inside[:, None] & held[None, :], other=0.0)
        if WIDEN:
            scores = tl.dot(query, key.to(tl.float32), input_precision="ieee") * scale
        else:
            scores = tl.dot(query, key) * scale
        scores = tl.where(inside[None, :] & (at[None, :] < seen[:, None]), scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # a row that has seen nothing yet
        share, fade = tl.exp2(scores - base[:, None]), tl.exp2(highest - base)
        total = total * fade + tl.sum(share, 1)
        if WIDEN:
            added = tl.dot(share, value.to(tl.float32), input_precision="ieee")
        else:
            added = tl.dot(share.to(value.dtype), value)
        output = output * fade[:, None] + added
        highest = higher
    place = head * rows_in_all + slot + row
    divisor = tl.where(total > 0, total, 1.0)
    tl.store(weights + place, highest + tl.log2(divisor), mask=live)
    tl.store(
        partial + place[:, None] * DIM + column[None, :],
        output / divisor[:, None],
        mask=live[:, None] & held[None, :],
    )


@triton.jit(do_not_specialize=STEPWISE)
def merge(
    partial,
    weights,
    offsets,
    entries,
    out,
    rows_in_all,
    GROUP: tl.constexpr,
    GROUP_WIDTH: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Average a token's partial results by the softmax of their weights. Grid: (tokens, kv_heads).

    Args:
        offsets: [tokens + 1]; entries: places of a token's first row among the partial results.
        out: [tokens, kv_heads * GROUP, DIM]; zero for a token without any.
    """
    token, head = tl.program_id(0), tl.program_id(1)
    begin, end = tl.load(offsets + token).to(tl.int32), tl.load(offsets + token + 1).to(tl.int32)
    member, column = tl.arange(0, GROUP_WIDTH), tl.arange(0, WIDTH)
    held = (member < GROUP)[:, None] & (column < DIM)[None, :]
    highest = tl.full([GROUP_WIDTH], float("-inf"), tl.float32)
    total = tl.zeros([GROUP_WIDTH], tl.float32)
    output = tl.zeros([GROUP_WIDTH, WIDTH], tl.float32)
    for entry in range(begin, end):
        place = head * rows_in_all + tl.load(entries + entry) + member
        weight = tl.load(weights + place, mask=member < GROUP, other=float("-inf"))
        part = tl.load(partial + place[:, None] * DIM + column[None, :], mask=held, other=0.0)
        higher = tl.maximum(highest, weight)
        base = tl.where(higher == float("-inf"), 0.0, higher)
        share, fade = tl.exp2(weight - base), tl.exp2(highest - base)
        total = total * fade + share
        output = output * fade[:, None] + part * share[:, None]
        highest = higher
    output = output / tl.where(total > 0, total, 1.0)[:, None]
    row = (token * tl.num_programs(1) + head) * GROUP + member
    tl.store(out + row[:, None] * DIM + column[None, :], output.to(out.dtype.element_ty), mask=held)


@triton.jit
def normalize(x, weight, out, stride, epsilon, DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Divide a row by its root mean square and scale it. Grid: (rows,)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    held = column < DIM
    values = tl.load(x + row * stride + column, mask=held, other=0.0).to(tl.float32)
    scaled = values * tl.rsqrt(tl.sum(values * values, 0) / DIM + epsilon)
    rounded = scaled.to(out.dtype.element_ty).to(tl.float32)
    factor = tl.load(weight + column, mask=held, other=0.0).to(tl.float32)
    tl.store(out + row * DIM + column, (rounded * factor).to(out.dtype.element_ty), mask=held)
