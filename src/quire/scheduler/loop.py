"""One thread that owns the engine: admits, steps, ends; a second one tells what came of it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import EngineBusy, EngineError, EngineStopped, ModuleRevoked, QuireError
from quire.scheduler.schedule import Schedule
from quire.scheduler.telling import Teller
from quire.scheduler.ticket import Sink, Ticket
from quire.scheduler.timeline import Steps

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from quire.engine import Engine, Request, Token
    from quire.pool import ChainLease

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests waiting and running now; tokens of room taken, by idle sessions too, and in all; what has been."""

    waiting: int
    running: int
    room_used: int
    room_total: int
    preemptions: int
    steps: Steps


class Scheduler:
    """Accepts requests from any thread and runs them together; `queue` may wait."""

    def __init__(self, engine: Engine, *, max_sequences: int, step_tokens: int, queue: int) -> None:
        """`step_tokens`: most tokens of a step, and so most requests in one too, if `max_sequences` are more."""
        self._engine = engine
        self._queue = queue
        self._schedule = Schedule(engine, max_sequences=max_sequences, step_tokens=step_tokens)
        self._teller = Teller()
        self._steps = Steps()
        self._wake = threading.Condition()
        self._pushed_out: list[Ticket] = []
        self._revoked: set[str] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="quire-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, sink: Sink) -> Ticket:
        """Check `request` and queue it. From here on the engine releases its lease, whatever happens.

        Raises:
            InvalidRequest, ContextExceeded, ModelMismatch, EngineBusy, EngineStopped, ModuleRevoked: the lease is still
                the caller's.
        """
        ticket = Ticket(self._engine.begin(request), sink)
        with self._wake:
            if self._stopping:
                raise EngineStopped("the engine is shutting down", hint="ask again in a moment")
            if self._answers_from(ticket, self._revoked):
                raise _cut(ticket)
            if leaving := self._displaced_by(ticket.tenant, ticket.weight):
                self._schedule.waiting.pop_newest(leaving.tenant)
                leaving.failure = _busy(self._queue)
                self._pushed_out.append(leaving)  # the engine's thread ends it, and it is told
            self._schedule.add(ticket)
            self._wake.notify_all()
        return ticket

    def room_behind(self, lease: ChainLease) -> int:
        """Tokens that question and answer behind a leased chain may have together, if they were alone."""
        return self._engine.room_behind(lease)

    def check_queue(self, tenant: str, weight: int) -> None:
        """Raises EngineBusy if a request of `tenant` would now be refused: before anything is done for it in vain."""
        with self._wake:
            self._displaced_by(tenant, weight)

    def cancel(self, ticket: Ticket) -> None:
        """End a request at the next step; it gets a delta with the finish reason "cancelled". May be called twice."""
        with self._wake:
            ticket.cancelled = True
            self._wake.notify_all()

    def cut(self, digests: Collection[str]) -> int:
        """End all that answers from a module of `digests`, with ModuleRevoked, and refuse what comes; how many."""
        with self._wake:
            self._revoked |= set(digests)
            running = (*self._schedule.running, *self._schedule.waiting)
            hit = [ticket for ticket in running if self._answers_from(ticket, digests) and not ticket.cancelled]
            for ticket in hit:
                ticket.failure, ticket.cancelled = _cut(ticket), True
            self._wake.notify_all()
            return len(hit)

    @staticmethod
    def _answers_from(ticket: Ticket, digests: Collection[str]) -> bool:
        return bool(digests) and any(record.digest in digests for record in ticket.run.request.lease.records)

    def load(self) -> Load:
        with self._wake:
            schedule, room = self._schedule, self._engine.room()
            return Load(len(schedule.waiting), len(schedule.running), *room, schedule.preemptions, self._steps)

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

    def _displaced_by(self, tenant: str, weight: int) -> Ticket | None:
        """Who leaves the queue for a newcomer, at the expense of whoever crowds it; None: it has room.

        Raises:
            EngineBusy: nobody does.
        """
        if len(self._schedule.waiting) < self._queue:
            return None
        leaving = self._schedule.displaced_by(tenant, weight)
        if leaving is None:
            raise _busy(self._queue)
        return leaving

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
        unwanted: list[Ticket] = []
        try:
            with self._wake:
                self._wake.wait_for(lambda: schedule.waiting or schedule.running or self._pushed_out or self._stopping)
                unwanted = self._pushed_out + [t for t in (*schedule.running, *schedule.waiting) if t.unwanted]
                self._pushed_out = []
                self._finish(unwanted)
                schedule.admit()
                batch = schedule.next_batch()
                done = self._stopping and not schedule.waiting and not schedule.running
            return None if done else batch
        finally:  # whatever fails meanwhile: they are in no list any more
            if unwanted:
                self._teller.tell([(ticket, "cancelled") for ticket in unwanted])

    def _step(self, batch: Sequence[tuple[Ticket, int]]) -> None:
        began = time.perf_counter()
        brought = self._engine.step([(ticket.run, count) for ticket, count in batch])
        over = time.perf_counter()
        guessed = [0 if isinstance(said, QuireError) else max(0, len(said) - 1) for said in brought]  # and rightly so
        self._steps = self._steps.after(len(batch), sum(count for _, count in batch) + sum(guessed), over - began)
        for (ticket, _), said in zip(batch, brought, strict=True):
            ticket.times.step(began, over, len(batch), chose=bool(said))
        self._schedule.after_step(over - began)
        items: list[tuple[Ticket, Token | QuireError]] = []
        for (ticket, _), said in zip(batch, brought, strict=True):
            items += [(ticket, said)] if isinstance(said, QuireError) else [(ticket, token) for token in said]
        ended = [ticket for ticket, said in items if isinstance(said, QuireError) or said.reason]
        with self._wake:
            for (ticket, _), tokens in zip(batch, guessed, strict=True):
                self._schedule.charge(ticket.tenant, tokens)
            self._finish(ended)
        self._teller.tell(items)

    def _finish(self, tickets: Sequence[Ticket]) -> None:
        if tickets:
            now = time.perf_counter()
            for ticket in tickets:
                ticket.times.ended = now
            self._schedule.finish(tickets)
            self._wake.notify_all()

    def _fail(self, error: Exception) -> None:
        """What raises in a turn does not say which request is to blame: all that took part end."""
        named = error if isinstance(error, QuireError) else EngineError(f"generation failed: {error}")
        with self._wake:
            first = self._schedule.next()
            tickets = self._schedule.running or ([first] if first else [])
            self._finish(tickets)
        self._teller.tell([(ticket, named) for ticket in tickets])


def _cut(ticket: Ticket) -> ModuleRevoked:
    leaf = ticket.run.request.lease.leaf
    return ModuleRevoked(
        f"{leaf.ref} was revoked, or what it stands on, before its answer was complete",
        hint="do not use what was answered so far; ask again",
    )


def _busy(queue: int) -> EngineBusy:
    return EngineBusy(f"{queue} requests are waiting already", hint="ask again in a moment")
