"""One thread that owns the engine: admits requests in order of arrival, steps, hands out what became visible."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from quire.core import Delta
from quire.errors import EngineBusy, EngineError, EngineStopped, QuireError

if TYPE_CHECKING:
    from quire.core import Usage
    from quire.engine import Engine, Request, Running

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where a request's deltas go, called from the scheduler's thread; must not block."""

    def __call__(self, item: Delta | QuireError) -> None: ...


@dataclass(eq=False, slots=True)
class Ticket:
    """A submitted request. `usage` counts while it runs; `first_token_seconds` since it was submitted."""

    request: Request
    sink: Sink
    running: Running | None = None
    cancelled: bool = False
    submitted_at: float = field(default_factory=time.perf_counter)
    first_token_seconds: float | None = None

    @property
    def usage(self) -> Usage | None:
        return self.running.usage if self.running else None


@dataclass(frozen=True, slots=True)
class Load:
    """Requests now waiting and running."""

    waiting: int
    running: int


class Scheduler:
    """First come, first served, up to `max_sequences` at once and `queue` waiting."""

    def __init__(self, engine: Engine, *, max_sequences: int, queue: int) -> None:
        self._engine = engine
        self._max_sequences = max_sequences
        self._queue = queue
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="quire-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, sink: Sink) -> Ticket:
        """Queue `request`. From here on the engine releases its lease, whatever happens.

        Raises:
            EngineBusy, EngineStopped: the lease is still the caller's.
        """
        ticket = Ticket(request, sink)
        with self._wake:
            if self._stopping:
                raise EngineStopped("the engine is shutting down", hint="ask again in a moment")
            if len(self._waiting) >= self._queue:
                raise EngineBusy(f"{self._queue} requests are waiting already", hint="ask again in a moment")
            self._waiting.append(ticket)
            self._wake.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """End a request at the next step; it gets a delta with the finish reason "cancelled". May be called twice."""
        with self._wake:
            ticket.cancelled = True
            self._wake.notify()

    def load(self) -> Load:
        with self._wake:
            return Load(len(self._waiting), len(self._running))

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Accept nothing new, give running and waiting requests `drain_seconds` to finish, cancel the rest."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
            self._wake.wait_for(lambda: not self._waiting and not self._running, timeout=drain_seconds)
            for ticket in (*self._waiting, *self._running):
                ticket.cancelled = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._admit():
            if self._running:
                self._step()

    def _step(self) -> None:
        # A call of its own, so that while it waits the thread holds no request, and with it no module's files.
        try:
            visible = self._engine.step([t.running for t in self._running if t.running])
        except Exception as error:
            log.exception("a generation step failed")
            self._fail(error)
            return
        by_running = {id(t.running): t for t in self._running}
        for running, item in visible:
            self._deliver(by_running[id(running)], item)

    def _admit(self) -> bool:
        """Drop what was cancelled, begin what has room. False when all is done and the scheduler stops."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._running or self._stopping)
            for ticket in [t for t in self._running if t.cancelled and t.running]:
                self._finish(ticket, ticket.running.cancel() if ticket.running else Delta(""))
            cancelled = [t for t in self._waiting if t.cancelled]
            self._waiting = deque(t for t in self._waiting if not t.cancelled)
            fresh: list[Ticket] = []
            while self._waiting and len(self._running) + len(fresh) < self._max_sequences:
                fresh.append(self._waiting.popleft())
            for ticket in cancelled:
                self._refuse(ticket, Delta("", finish_reason="cancelled"))
            for ticket in fresh:
                self._begin(ticket)
            self._wake.notify_all()
            return bool(self._running or self._waiting or not self._stopping)

    def _begin(self, ticket: Ticket) -> None:
        try:
            ticket.running = self._engine.admit(ticket.request)
        except QuireError as error:
            self._refuse(ticket, error)
        except Exception as error:  # of one request: the others and this thread go on
            log.exception("a request could not be admitted")
            self._refuse(ticket, EngineError(f"the request could not be admitted: {error}"))
        else:
            self._running.append(ticket)

    def _refuse(self, ticket: Ticket, item: Delta | QuireError) -> None:
        if ticket.request.session:
            ticket.request.session.release()
        ticket.request.lease.release()
        self._tell(ticket, item)

    def _deliver(self, ticket: Ticket, item: Delta | QuireError) -> None:
        if isinstance(item, Delta) and ticket.first_token_seconds is None:
            ticket.first_token_seconds = time.perf_counter() - ticket.submitted_at
        if isinstance(item, QuireError) or item.finish_reason:
            with self._wake:
                self._finish(ticket, item)
                self._wake.notify_all()
        else:
            self._tell(ticket, item)

    def _finish(self, ticket: Ticket, item: Delta | QuireError) -> None:
        self._running.remove(ticket)
        if ticket.running:
            self._engine.end(ticket.running)
        self._tell(ticket, item)

    def _tell(self, ticket: Ticket, item: Delta | QuireError) -> None:
        try:
            ticket.sink(item)
        except Exception:  # a sink that raises is a caller that is gone: its event loop has closed, or the like
            log.exception("a request's sink failed: the request ends")
            ticket.cancelled = True

    def _fail(self, error: Exception) -> None:
        """A step that raises says nothing about which request is to blame: all that took part end."""
        named = error if isinstance(error, QuireError) else EngineError(f"generation failed: {error}")
        with self._wake:
            for ticket in list(self._running):
                self._finish(ticket, named)
            self._wake.notify_all()
