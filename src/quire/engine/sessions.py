"""Conversations whose earlier turns are not computed again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.model import GrowingKV

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quire.core import KVGeometry


@dataclass(slots=True)
class Session:
    """The suffix of a conversation so far. `token_ids` are those whose KV is in `kv`, behind the chain `chain_digest`.

    `replies` maps an answer's text to the token ids it was generated as: tokenizing the text again may give others.
    """

    session_id: str
    chain_digest: str
    kv: GrowingKV
    home: Sessions
    token_ids: list[int] = field(default_factory=list)
    replies: dict[str, list[int]] = field(default_factory=dict)

    def resume(self, token_ids: list[int]) -> int:
        """Keep what `token_ids` has in common with the turns before; give how many tokens that is. Mutates.

        At least one token is left to compute, since an answer starts from the logits of the last one.
        """
        common = 0
        for old, new in zip(self.token_ids, token_ids[:-1], strict=False):
            if old != new:
                break
            common += 1
        self.kv.truncate(common)
        self.token_ids = token_ids[:common]
        return common

    def keep_replies(self, texts: Iterable[str]) -> None:
        """Forget the token ids of answers that the conversation does not have any more. Mutates."""
        wanted = set(texts)
        self.replies = {text: ids for text, ids in self.replies.items() if text in wanted}

    def release(self) -> None:
        """Put it back among the idle ones, for the next turn. Mutates."""
        self.home.keep(self)


class Sessions:
    """Idle sessions by name, the longest unused dropped first when their KV exceeds `max_bytes`. Thread-safe.

    A session is out of here while a request uses it; a second request of the same session meanwhile starts anew.
    """

    def __init__(self, geometry: KVGeometry, max_bytes: int) -> None:
        self._geometry = geometry
        self._max_bytes = max_bytes
        self._idle: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, session_id: str, chain_digest: str) -> Session:
        """The session, or a new one if it is unknown, in use, or follows another chain. Mutates."""
        with self._lock:
            known = self._idle.pop(session_id, None)
        if known is not None and known.chain_digest == chain_digest:
            return known
        replies = known.replies if known else {}
        return Session(session_id, chain_digest, GrowingKV(self._geometry), self, replies=replies)

    def keep(self, session: Session) -> None:
        """Put a session back after its request; one in which nothing was computed is dropped. Mutates."""
        with self._lock:
            self._idle.pop(session.session_id, None)
            if session.kv.length:
                self._idle[session.session_id] = session
            while sum(s.kv.nbytes for s in self._idle.values()) > self._max_bytes:
                self._idle.popitem(last=False)

    def __len__(self) -> int:
        return len(self._idle)
