"""What every conversation behind a module begins with, computed once for all of them.

A layout puts the same words before the first question of every conversation, and behind the same module their KV is the
same: of a short question's tokens they are a fifth. So each request that begins with them gets a copy. Of what askers
write nothing is shared in this way, or the time that a question takes would tell what others have asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from quire.compiler import Layout

if TYPE_CHECKING:
    import torch

    from quire.core import KVSegment
    from quire.engine.base import Request
    from quire.model import GrowingKV, TextTokenizer
    from quire.pool import ChainLease

MOST = 64  # tokens of an opening that is kept: it is memory that no budget counts


class Opening:
    """The tokens, and their KV once somebody has computed it, which the engine's thread alone reads and sets."""

    def __init__(self, token_ids: list[int], basis: str) -> None:
        """`basis`: of the chain that it stands behind (`ChainLease.basis`)."""
        self.token_ids = token_ids
        self.basis = basis
        self._kv: torch.Tensor | None = None  # [2, layers, kv_heads, tokens, head_dim]

    def give(self, kv: GrowingKV) -> None:
        """Let `kv`, which is empty and has room for it, begin with it, if it is known. Mutates `kv`."""
        if self._kv is not None:
            kv.begin(self._kv)

    def learn(self, kv: GrowingKV) -> None:
        """Keep it, if it is not known and `kv`, which begins with it, has all of it. Mutates."""
        if self._kv is None and kv.length >= len(self.token_ids):
            self._kv = kv.head(len(self.token_ids)).clone()


class Openings:
    """Those of the modules that are in use or in the pool: with a module its opening is forgotten."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: WeakKeyDictionary[KVSegment, Opening] = WeakKeyDictionary()

    def of(self, request: Request) -> Opening | None:
        """What `request` begins with and goes on after; None: with something else. Any thread. Mutates."""
        leaf = request.lease.segments[-1]
        opening = self._known.get(leaf)
        if opening is None or opening.basis != request.lease.basis:
            opening = self._known[leaf] = self._make(request.lease)
        count = len(opening.token_ids)
        begins = 0 < count < len(request.suffix_ids) and request.suffix_ids[:count] == opening.token_ids
        return opening if begins else None

    def _make(self, lease: ChainLease) -> Opening:
        leaf = lease.leaf
        token_ids = self._tokenizer.markers(Layout.parse(leaf.inputs["layout"], str(leaf.ref)).first_user)
        return Opening(token_ids if len(token_ids) <= MOST else [], lease.basis)
