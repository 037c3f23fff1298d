"""Who computes what in the next step."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quire.engine import Engine, Run
    from quire.scheduler.ticket import Ticket


class Schedule:
    """First come, first served, as long as there is room; who came last gives way when it runs out.

    Each step computes one token of every answer, and the rest of its budget goes to questions. So an answer never waits
    longer than for a pass over `step_tokens` tokens, whatever the others ask, and every request moves in every step.
    Only of questions that are equal (several answers were asked for) the first is read, and the others copy its KV.
    """

    def __init__(self, engine: Engine, *, max_sequences: int, step_tokens: int) -> None:
        self.waiting: deque[Ticket] = deque()
        self.running: list[Ticket] = []  # in order of arrival, all of them before those that wait
        self.preemptions = 0
        self._copying: list[tuple[Run, Run]] = []  # (who reads, who waits to copy it)
        self._engine = engine
        self._step_tokens = step_tokens
        self._most = min(max_sequences, step_tokens)  # so that there is a token for everyone in every step

    def add(self, ticket: Ticket) -> None:
        self.waiting.append(ticket)

    def admit(self) -> None:
        """Let in whoever is first in the queue, while there is room."""
        while self.waiting and self._can_admit(self.waiting[0]):
            self.running.append(self.waiting.popleft())

    def next_batch(self) -> list[tuple[Ticket, int]]:
        """Room for every answer, at the expense of who came last; then tokens for everyone who moves."""
        served = 0
        while served < len(self.running):
            if self._engine.grow(self.running[served].run):
                served += 1
            else:
                self._preempt(self.running[-1])
        moving = self._moving()
        shares = share(self._step_tokens, [ticket.run.pending for ticket in moving])
        return list(zip(moving, shares, strict=True))

    def copy_questions(self) -> None:
        """To be called after a step, before those whom it ended are finished."""
        for reader, run in self._copying:
            if reader.kv.length >= len(reader.request.suffix_ids):
                self._engine.copy(reader, run)

    def finish(self, tickets: Iterable[Ticket]) -> None:
        """Free what these hold, wherever they are."""
        gone = set(tickets)
        for ticket in gone:
            self._engine.end(ticket.run)
        self.running = [t for t in self.running if t not in gone]
        self.waiting = deque(t for t in self.waiting if t not in gone)

    def _moving(self) -> list[Ticket]:
        """All who run but those whose question somebody before them reads or has read."""
        readers: dict[bytes, Run] = {}
        moving = []
        self._copying = []
        for ticket in self.running:
            run = ticket.run
            reader = readers.setdefault(run.question, run)
            if reader is run or run.kv.length or len(run.request.suffix_ids) == 1:
                moving.append(ticket)
            else:
                self._copying.append((reader, run))
        return moving

    def _can_admit(self, ticket: Ticket) -> bool:
        return len(self.running) < self._most and self._engine.admit(ticket.run)

    def _preempt(self, ticket: Ticket) -> None:
        """Back to the head of the queue: its tokens stay, and their KV is computed again when there is room."""
        self._engine.preempt(ticket.run)
        self.running.remove(ticket)
        self.waiting.appendleft(ticket)
        self.preemptions += 1


def share(budget: int, pending: Sequence[int]) -> list[int]:
    """Tokens for each of `pending`, `budget` in all: what they want if it is little, else equal parts.

    Nobody who wants more has less than another, but for a single token (max-min fairness). So an answer, which has one
    token pending, goes on in every step if there are no more requests than `budget`.
    """
    shares = [0] * len(pending)
    order = sorted(range(len(pending)), key=lambda i: (pending[i], -i))  # what is left over goes to the first of equals
    for done, i in enumerate(order):
        shares[i] = min(pending[i], budget // (len(order) - done))
        budget -= shares[i]
    return shares
