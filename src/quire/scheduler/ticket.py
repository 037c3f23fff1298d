"""A submitted request, as its caller and the scheduler's threads see it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from quire.core import Delta
from quire.errors import QuireError

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
    cancelled: bool = False
    failure: QuireError | None = None  # told at the end instead of a finish reason
    submitted_at: float = field(default_factory=time.perf_counter)
    first_token_seconds: float | None = None

    @property
    def usage(self) -> Usage | None:
        """Token counts so far; None before the request was admitted."""
        return self.run.usage

    @property
    def unwanted(self) -> bool:
        """Nothing more is to be computed for it."""
        return self.cancelled or self.run.wording.stopped
