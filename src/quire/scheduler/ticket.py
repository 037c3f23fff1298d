"""A submitted request, as its caller and the scheduler's threads see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from quire.core import Delta
from quire.errors import QuireError
from quire.scheduler.timeline import Timeline

if TYPE_CHECKING:
    from quire.core import Usage
    from quire.engine import Run


class Sink(Protocol):
    """Where a request's deltas go, called from the telling thread; must not block."""

    def __call__(self, item: Delta | QuireError) -> None: ...


@dataclass(eq=False, slots=True)
class Ticket:
    """A request on its way. `usage` counts what was told; `first_token_seconds` since it was submitted.

    The caller and the telling thread set `cancelled`, and the latter `failure`; the engine's thread sees to the end.
    """

    run: Run
    sink: Sink
    number: int = 0  # in order of arrival; the schedule sets it
    lender: str = ""  # the tenant whose place it has, if it is borrowed; the schedule sets it
    cancelled: bool = False
    failure: QuireError | None = None  # told at the end instead of a finish reason
    times: Timeline = field(default_factory=Timeline)
    first_token_seconds: float | None = None

    @property
    def tenant(self) -> str:
        """Whose share of the engine it takes."""
        return self.run.request.tenant

    @property
    def weight(self) -> int:
        """How large that share is, compared with others'."""
        return self.run.request.weight

    @property
    def usage(self) -> Usage | None:
        """Token counts so far; None before the request was admitted."""
        return self.run.usage

    @property
    def unwanted(self) -> bool:
        """Nothing more is to be computed for it."""
        return self.cancelled or self.run.wording.stopped
