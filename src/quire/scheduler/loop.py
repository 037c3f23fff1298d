"""One thread that owns the engine: admits, steps, ends; a second one tells what came of it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import EngineBusy, EngineError, EngineStopped, QuireError
from quire.scheduler.schedule import Schedule
from quire.scheduler.telling import Teller
from quire.scheduler.ticket import Sink, Ticket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.engine import Engine, Request

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests waiting and running now; tokens of room taken, by idle sessions too, and in all; preemptions so far."""

    waiting: int
    running: int
    room_used: int
    room_total: int
    preemptions: int


class Scheduler:
    """Accepts requests from any thread and runs them together; `queue` may wait."""

    def __init__(self, engine: Engine, *, max_sequences: int, step_tokens: int, queue: int) -> None:
        """`step_tokens`: most tokens of a step, and so most requests in one too, if `max_sequences` are more."""
        self._engine = engine
        self._queue = queue
        self._schedule = Schedule(engine, max_sequences=max_sequences, step_tokens=step_tokens)
        self._teller = Teller()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="quire-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, sink: Sink) -> Ticket:
        """Check `request` and queue it. From here on the engine releases its lease, whatever happens.

        Raises:
            InvalidRequest, ContextExceeded, ModelMismatch, EngineBusy, EngineStopped: the lease is still the caller's.
        """
        ticket = Ticket(self._engine.begin(request), sink)
        with self._wake:
            if self._stopping:
                raise EngineStopped("the engine is shutting down", hint="ask again in a moment")
            if len(self._schedule.waiting) >= self._queue:
                raise EngineBusy(f"{self._queue} requests are waiting already", hint="ask again in a moment")
            self._schedule.add(ticket)
            self._wake.notify_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """End a request at the next step; it gets a delta with the finish reason "cancelled". May be called twice."""
        with self._wake:
            ticket.cancelled = True
            self._wake.notify_all()

    def load(self) -> Load:
        with self._wake:
            schedule, room = self._schedule, self._engine.room()
            return Load(len(schedule.waiting), len(schedule.running), *room, schedule.preemptions)

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Accept nothing new, give running and waiting requests `drain_seconds` to finish, cancel the rest."""
        schedule = self._schedule
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: not schedule.waiting and not schedule.running, timeout=drain_seconds)
            for ticket in (*schedule.waiting, *schedule.running):
                ticket.cancelled = True
            self._wake.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while self._turn():
            pass
        self._teller.stop()

    def _turn(self) -> bool:
        # A call of its own, so that while it waits the thread holds no request, and with it no module's files.
        try:
            batch = self._next_batch()
            if batch:
                self._step(batch)
        except Exception as error:
            log.exception("a generation step failed")
            self._fail(error)
            return True
        return batch is not None

    def _next_batch(self) -> list[tuple[Ticket, int]] | None:
        """Wait for work, drop what nobody wants, let in what has room. None: the scheduler stops."""
        schedule = self._schedule
        with self._wake:
            self._wake.wait_for(lambda: schedule.waiting or schedule.running or self._stopping)
            unwanted = [t for t in (*schedule.running, *schedule.waiting) if t.unwanted]
            self._finish(unwanted)
            schedule.admit()
            batch = schedule.next_batch()
            done = self._stopping and not schedule.waiting and not schedule.running
        if unwanted:
            self._teller.tell([(ticket, "cancelled") for ticket in unwanted])
        return None if done else batch

    def _step(self, batch: Sequence[tuple[Ticket, int]]) -> None:
        brought = self._engine.step([(ticket.run, count) for ticket, count in batch])
        self._schedule.copy_questions()
        items = [(ticket, token) for (ticket, _), token in zip(batch, brought, strict=True) if token is not None]
        ended = [ticket for ticket, token in items if isinstance(token, QuireError) or token.reason]
        with self._wake:
            self._finish(ended)
        self._teller.tell(items)

    def _finish(self, tickets: Sequence[Ticket]) -> None:
        if tickets:
            self._schedule.finish(tickets)
            self._wake.notify_all()

    def _fail(self, error: Exception) -> None:
        """What raises in a turn does not say which request is to blame: all that took part end."""
        named = error if isinstance(error, QuireError) else EngineError(f"generation failed: {error}")
        with self._wake:
            tickets = self._schedule.running or [*self._schedule.waiting][:1]
            self._finish(tickets)
        self._teller.tell([(ticket, named) for ticket in tickets])
