"""A question, and what is ready to answer it: a leased module and a suffix, or the words that nothing covers it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quire.answering.standing import warning_values
from quire.core import Delta, Plan, Sampling, Turn, Usage
from quire.engine import Request
from quire.errors import InvalidRequest
from quire.router import NO_HINTS, Hints

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.access import Principal
    from quire.answering.parts import Part
    from quire.compiler import Layout
    from quire.pool import ChainLease, Restored
    from quire.registry import VersionRecord
    from quire.scheduler import Sink


GREEDY = Sampling()
BACKGROUND = ("(background)",)  # a tenant that nobody can be
UNBOUNDED = 512  # tokens that an answer without a limit is expected to take, for those who must set some aside


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Either `turns` (a conversation, the question last) or `prompt` (text to continue, no markers).

    `module`: ``name`` or ``name@version`` to bypass the router. `session`: a name under which the KV of these turns is
    kept, so that the next question of the same conversation computes only what is new.
    """

    turns: tuple[Turn, ...] = ()
    prompt: str | None = None
    module: str | None = None
    hints: Hints = NO_HINTS
    session: str | None = None
    sampling: Sampling = GREEDY

    @property
    def text(self) -> str:
        """What the router looks at."""
        return self.prompt if self.prompt is not None else (self.turns[-1].content if self.turns else "")


class Prepared:
    """A question with its module leased and its suffix laid out, ready to run once. Release it if it is not run."""

    def __init__(
        self,
        question: Question,
        plan: Plan,
        lease: ChainLease,
        layout: Layout,
        suffix: list[int],
        principal: Principal,
        *,
        part: Part | None = None,
        background: bool = False,
    ) -> None:
        """`part`: in a canary. `background`: nobody waits for it, so it takes least of the engine, and no record."""
        self.part = part
        self.background = background
        self.question = question
        self.plan = plan
        self.lease = lease
        self.layout = layout
        self.principal = principal
        self.session = session_name(principal, question.session)
        self.suffix_ids = suffix
        self._settled = False

    @property
    def module(self) -> VersionRecord:
        return self.lease.leaf

    @property
    def most_tokens(self) -> int:
        """What it may take to compute: the question, and the longest answer that was asked for."""
        asked = self.question.sampling.max_tokens
        return len(self.suffix_ids) + (UNBOUNDED if asked is None else asked)

    @property
    def restored(self) -> Restored:
        return self.lease.restored

    def provenance(self) -> dict[str, Any]:
        """The `quire` object of an answer: who answered, from which bytes, why, and how it was restored."""
        return {
            "module": self.module.module_id,
            "version": self.module.version,
            "digest": self.module.digest,
            "stage": self.plan.stage,
            "reason": self.plan.reason,
            "confidence": self.plan.confidence,
            "tier": self.restored.tier,
            "restored_tokens": self.restored.tokens,
            "restore_ms": round(self.restored.seconds * 1e3, 3),
            "stale": warning_values(self.lease.records),
            "arm": self.part.arm if self.part else None,
        }

    def request(self) -> Request:
        """What the engine runs. From here on the engine gives the chain back: `release` does nothing more.

        Raises:
            InvalidRequest: it was run or released before.
        """
        if self._settled:
            raise InvalidRequest("this question was run or released before", hint="prepare it again")
        self._settled = True
        return Request(
            self.lease,
            self.suffix_ids,
            self.question.sampling,
            self.layout.stop,
            self.session,
            asker=BACKGROUND if self.background else self.principal.identity,
        )

    def release(self) -> None:
        """Give the chain back unused. May be called twice."""
        if not self._settled:
            self._settled = True
            self.lease.release()


@dataclass(frozen=True, slots=True)
class NotCovered:
    """A question that no module answers, in the place of a `Prepared`: its answer says so, and computes nothing."""

    question: Question
    plan: Plan
    recorded: Callable[[Sink], Sink]  # the sink, and a record where words are kept

    most_tokens: ClassVar[int] = 0

    @property
    def text(self) -> str:
        """What is answered."""
        return f"This question is not covered by any knowledge I have, so I do not answer it. ({self.plan.reason})"

    def provenance(self) -> dict[str, Any]:
        """The `quire` object of an answer, with null for what a module would have."""
        return {
            "module": None,
            "version": None,
            "digest": None,
            "stage": self.plan.stage,
            "reason": self.plan.reason,
            "confidence": self.plan.confidence,
            "tier": None,
            "restored_tokens": 0,
            "restore_ms": 0.0,
            "stale": None,
            "arm": None,
        }

    def tell(self, sink: Sink) -> Told:
        """The whole answer, before this returns."""
        self.recorded(sink)(Delta(self.text, finish_reason="stop"))
        return Told()

    def release(self) -> None:
        """Nothing is held."""


class Told:
    """The ticket of an answer that was complete at once."""

    usage = Usage(0, 0, 0)


def session_name(principal: Principal, session: str | None) -> str | None:
    """Under which the engine keeps the session: another principal's session of the same name is another session."""
    return None if session is None else json.dumps([*principal.identity, session])


def check_text(question: Question) -> None:
    """Raises InvalidRequest if there is nothing to route, or no text that can be encoded."""
    if not question.text.strip():
        raise InvalidRequest("the question is empty", hint="send some text")
    for text in (question.prompt or "", *(turn.content for turn in question.turns)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"the text has half a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start}",
                hint="send valid Unicode",
            ) from error
