"""One request on its way: its tokens, and how many of them are computed."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from quire.core import Usage
from quire.engine.sampling import Sampler
from quire.engine.wording import Wording

if TYPE_CHECKING:
    from quire.engine.base import Request
    from quire.engine.guessing import Guesser
    from quire.engine.opening import Opening
    from quire.engine.sessions import Session
    from quire.model import GrowingKV, TextTokenizer


class Run:
    """State of one request, from the first check to its end.

    `token_ids` are the suffix and then the answer; the KV of the first `kv.length` of them is computed. The engine's
    thread changes them; `wording` belongs to the thread that tells the answer.
    """

    def __init__(
        self, request: Request, kv: GrowingKV, tokenizer: TextTokenizer, limit: int, repetition: int = 0
    ) -> None:
        """
        Args:
            kv: empty.
            limit: most tokens to generate.
            repetition: tokens that repeat one span when the answer is ended; 0: it goes on.
        """
        sampling = request.sampling
        self.request = request
        self.kv = kv
        self.token_ids = list(request.suffix_ids)
        self.most = len(self.token_ids) + limit  # tokens, the last of which is never computed
        self.repetition = 0 if sampling.ignore_eos else repetition
        # Equal if the question is, and who asks: by the time it takes, nobody may learn what others are asking.
        self.question = repr((request.asker, request.lease.basis)).encode() + array("q", self.token_ids).tobytes()
        self.eos_ids = frozenset() if sampling.ignore_eos else tokenizer.eos_ids
        self.sampler = Sampler(sampling, [*request.lease.token_ids, *self.token_ids] if _looks_back(request) else ())
        self.wording = Wording(tokenizer, (*sampling.stop, *request.stop))
        self.opening: Opening | None = None
        self.guesser: Guesser | None = None
        self.session: Session | None = None
        self.reused: int | None = None  # tokens of earlier turns that were not computed again; None: never admitted
        self.ended = False

    @property
    def pending(self) -> int:
        """Tokens that are given or chosen and not computed yet."""
        return len(self.token_ids) - self.kv.length

    @property
    def unshared(self) -> int:
        """Tokens that are computed for this request, now or before: all but those of earlier turns."""
        return len(self.token_ids) - (self.reused or 0)

    @property
    def begun(self) -> bool:
        """More is computed than what every conversation begins with."""
        return self.kv.length > (len(self.opening.token_ids) if self.opening else 0)

    @property
    def usage(self) -> Usage | None:
        """Tokens so far, of the answer those that were told; None before it was admitted."""
        if self.reused is None:
            return None
        chain = sum(s.token_count for s in self.request.lease.segments)
        return Usage(chain + len(self.request.suffix_ids), chain + self.reused, self.wording.completion)

    def next_ids(self, count: int) -> list[int]:
        """The first `count` pending tokens."""
        return self.token_ids[self.kv.length : self.kv.length + count]

    def remember(self) -> None:
        """Let the session find this answer's token ids by its text. Mutates the session; call it at the end."""
        if self.session and self.wording.whole:
            self.session.remember("".join(self.wording.said), self.wording.said_ids)
        self.session = None


def _looks_back(request: Request) -> bool:
    return request.sampling.repetition_penalty != 1.0
