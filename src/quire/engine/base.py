"""The contract of an engine: it carries requests forward, one step at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import Delta, Sampling
    from quire.engine.sequence import Running
    from quire.engine.sessions import Session
    from quire.errors import QuireError
    from quire.pool import ChainLease


@dataclass(slots=True)
class Request:
    """What to generate from: a leased chain, the suffix after it, and how to choose.

    `stop`: the layout's stop strings in addition to the caller's. The engine releases the lease when the request ends.
    """

    lease: ChainLease
    suffix_ids: list[int]
    sampling: Sampling
    stop: tuple[str, ...] = ()
    session: Session | None = None


class Engine(ABC):
    """Runs many requests at once. Not thread-safe: one thread calls it."""

    @abstractmethod
    def admit(self, request: Request) -> Running:
        """Begin a request; nothing is computed yet.

        Raises:
            InvalidRequest, ContextExceeded, ModelMismatch: the lease is then still the caller's.
        """

    @abstractmethod
    def step(self, running: Sequence[Running]) -> list[tuple[Running, Delta | QuireError]]:
        """One forward pass over as many of `running` as its token budget allows. Mutates them.

        Returns what became visible; a delta with a finish reason is a request's last, and so is an error, which
        concerns that request alone. What the call itself raises concerns all of them.
        """

    @abstractmethod
    def end(self, running: Running) -> None:
        """Free all that a request holds, finished or not; its session keeps what was computed. May be called twice."""
