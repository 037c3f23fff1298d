"""The contract of an engine: it carries requests forward, one step at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import FinishReason, Sampling
    from quire.engine.run import Run
    from quire.engine.sampling import Likelihood
    from quire.errors import QuireError
    from quire.pool import ChainLease


@dataclass(slots=True)
class Request:
    """What to generate from: a leased chain, the suffix after it, and how to choose.

    `stop`: the layout's stop strings in addition to the caller's. `session`: the name of a conversation whose earlier
    turns need not be computed again. `asker`: who shares work with whom, its tenant first. `weight`: how large the
    tenant's share of the engine is, compared with others'. The engine releases the lease when the request ends.
    """

    lease: ChainLease
    suffix_ids: list[int]
    sampling: Sampling
    stop: tuple[str, ...] = ()
    session: str | None = None
    asker: tuple[str, ...] = ()
    weight: int = 1

    @property
    def tenant(self) -> str:
        """Whose share of the engine it takes."""
        return self.asker[0] if self.asker else ""


@dataclass(frozen=True, slots=True)
class Token:
    """A chosen token. `reason`: it is the request's last, and why; a token that says "stop" is no text."""

    token_id: int
    likelihood: Likelihood | None = None
    reason: FinishReason | None = None


Portion = tuple["Run", int]  # how many of a request's pending tokens a step computes


class Engine(ABC):
    """Runs many requests at once. One thread calls it; `begin`, `room` and `room_behind` may be called from any."""

    @abstractmethod
    def begin(self, request: Request) -> Run:
        """Check a request. Nothing is computed or taken for it yet.

        Raises:
            InvalidRequest, ContextExceeded, ModelMismatch, ModelChanged: the lease is then still the caller's.
        """

    @abstractmethod
    def admit(self, run: Run) -> bool:
        """Take room for what is pending and what comes next. False: there is none now, and it holds none. Mutates.

        A run that is alone has room. One that was admitted before goes on with the KV that it still has.
        """

    @abstractmethod
    def grow(self, run: Run) -> bool:
        """Have room for one more token of an admitted run. False: there is none now. Mutates."""

    @abstractmethod
    def step(self, batch: Sequence[Portion]) -> list[list[Token] | QuireError]:
        """One forward pass over `batch`. Mutates the runs.

        Returns what each run chose: nothing while tokens are still pending, one token, or several where guesses were
        right; an error (as ModuleChanged) concerns that run alone. What the call itself raises concerns all of them.
        """

    @abstractmethod
    def copy(self, reader: Run, run: Run) -> None:
        """Give `run`, admitted and not begun, the KV of the equal question that `reader` has read. Mutates `run`.

        One token is left to compute, since an answer starts from the logits of the last one.
        """

    @abstractmethod
    def preempt(self, run: Run) -> None:
        """Give back the room of an admitted run; all of its tokens are pending again. Mutates."""

    @abstractmethod
    def end(self, run: Run) -> None:
        """Free all that a run holds, admitted or not; its session keeps what was computed. May be called twice."""

    @abstractmethod
    def room(self) -> tuple[int, int]:
        """Tokens of room that are taken, by idle sessions too, and that there are."""

    @abstractmethod
    def room_behind(self, lease: ChainLease) -> int:
        """Tokens that question and answer behind a leased chain may have together, if they were alone."""
