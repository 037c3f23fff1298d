"""Conversations whose earlier turns are not computed again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.model import GrowingKV

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quire.model import KVSpace


@dataclass(slots=True)
class Session:
    """The suffix of a conversation so far. `token_ids` are those whose KV is in `kv`, behind the chain `basis`
    (`ChainLease.basis`).

    `replies` maps an answer's text to the token ids it was generated as: tokenizing the text again may give others.
    """

    session_id: str
    basis: str
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

    def remember(self, text: str, token_ids: list[int]) -> None:
        """Let the next turn find the token ids of an answer by its text. Any thread. Mutates."""
        with self.home.lock:
            self.replies[text] = token_ids


class Sessions:
    """Idle sessions by name, their KV in the engine's space; the longest unused go first.

    A session is out of here while a request uses it; a second request of the same session meanwhile starts anew.
    What concerns KV belongs to the engine's thread; `replies` may be asked for by any.
    """

    def __init__(self, space: KVSpace, max_bytes: int) -> None:
        """`max_bytes`: most KV of all idle sessions together."""
        self.lock = threading.Lock()
        self._space = space
        self._max_bytes = max_bytes
        self._idle: OrderedDict[str, Session] = OrderedDict()

    def replies(self, session_id: str, texts: Iterable[str]) -> dict[str, list[int]]:
        """Token ids of those of `texts` that are answers of this session; it forgets all others. Mutates."""
        wanted = set(texts)
        with self.lock:
            session = self._idle.get(session_id)
            if session is None:
                return {}
            session.replies = {text: ids for text, ids in session.replies.items() if text in wanted}
            return dict(session.replies)

    def take(self, session_id: str, basis: str) -> Session:
        """The session, or a new one if it is unknown, in use, or follows another chain. Mutates."""
        with self.lock:
            known = self._idle.pop(session_id, None)
        if known is None:
            return Session(session_id, basis, GrowingKV(self._space.geometry, space=self._space), self)
        if known.basis != basis:
            known.kv.release()
            known.token_ids, known.basis = [], basis
        return known

    def keep(self, session: Session) -> None:
        """Put a session back after its request; one in which nothing was computed is dropped. Mutates."""
        session.kv.trim()
        with self.lock:
            replaced = self._idle.pop(session.session_id, None)
            if session.kv.length:
                self._idle[session.session_id] = session
        if replaced:
            replaced.kv.release()
        while sum(s.kv.nbytes for s in self._idle.values()) > self._max_bytes:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """Free the KV of the session that was not used for longest. False: none is idle. Mutates."""
        with self.lock:
            if not self._idle:
                return False
            _, session = self._idle.popitem(last=False)
        session.kv.release()
        return True

    def held(self) -> tuple[int, int]:
        """How many are idle, and the bytes of their KV. Any thread."""
        with self.lock:
            return len(self._idle), sum(session.kv.nbytes for session in self._idle.values())

    def __len__(self) -> int:
        return len(self._idle)
