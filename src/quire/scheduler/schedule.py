"""Who computes what in the next step."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from quire.scheduler.fairness import EVEN, EXPECTED, Accounts, share_by_tenant
from quire.scheduler.pace import LONG, Pace
from quire.scheduler.places import last_to_come, lending, owing
from quire.scheduler.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from quire.engine import Engine, Run
    from quire.scheduler.ticket import Ticket


LENDABLE = 4  # one place in as many can be borrowed on top of a share
BESIDE = 64  # question tokens of a step for a tenant of whom more wait, beside one of whom nobody waits


class Schedule:
    """Fair between tenants; first come, first served within each.

    A place goes to the tenant that has had least of the engine (`fairness`), if need be one of another (`places`). Who
    is sent back waits with its KV, as long as nobody who runs needs the room. When that runs out, the tenant that takes
    most of it gives way, with its request that came last.

    Each step computes one token of every answer, and the rest of its budget goes to questions, so that an answer never
    waits longer than for a pass over `step_tokens` tokens. Of long questions it computes pieces of bounded time, or
    nothing (`pace`): one that fills the model's context does not take the machine from all others. Only of an asker's
    questions that are equal (several answers were asked for) the first is read, and the others copy its KV.
    """

    def __init__(self, engine: Engine, *, max_sequences: int, step_tokens: int) -> None:
        self.waiting = Waiting()
        self.running: list[Ticket] = []  # those of each tenant in order of arrival, and before those of it that wait
        self.preemptions = 0
        self._arrivals = 0
        self._copying: list[tuple[Run, Run]] = []  # (who reads, who waits to copy it)
        self._pace = Pace()
        self._pieces_given = 0
        self._planned = 0, 0  # tokens of the last batch: of all but long questions, and of these
        self._engine = engine
        self._step_tokens = step_tokens
        self._most = min(max_sequences, step_tokens)  # so that there is a token for everyone in every step
        self._accounts = Accounts(self._most // LENDABLE * EXPECTED)

    def add(self, ticket: Ticket) -> None:
        running = {t.tenant for t in self.running}
        self._accounts.arrive(ticket.tenant, ticket.weight, self.waiting.tenants, running)
        self._arrivals += 1
        ticket.number = self._arrivals
        self.waiting.append(ticket)

    def displaced_by(self, tenant: str, weight: int) -> Ticket | None:
        """Whom a newcomer of `tenant` may displace in the queue; None: nobody.

        That is the newest of the tenant with the longest queue for its weight, if it is longer than the newcomer's
        would become. Who has begun to answer stays.
        """
        firsts = [self.waiting.first(tenant) for tenant in self.waiting.tenants]
        crowd = max(firsts, key=lambda t: self.waiting.count(t.tenant) / t.weight)
        newest = self.waiting.newest(crowd.tenant)
        if self.waiting.count(crowd.tenant) / crowd.weight <= (self.waiting.count(tenant) + 1) / weight:
            return None
        return newest if newest.run.reused is None else None

    def next(self) -> Ticket | None:
        """Who is let in when there is a place: the first of the tenant that has had least; None: nobody waits."""
        running = Counter(t.tenant for t in self.running)
        firsts = [self.waiting.first(tenant) for tenant in self.waiting.tenants]
        standing = self._accounts.standing
        return min(firsts, key=lambda t: (standing(t.tenant, running[t.tenant]), t.number), default=None)

    def admit(self) -> None:
        """Let in whose turn it is, while there is room, or while somebody has more than their share of it."""
        while ticket := self.next():
            while not self._can_admit(ticket):
                if (leaving := owing(self.running, ticket)) is None:
                    self._lend_places()
                    return
                self._send_back(leaving)
            self.running.append(self.waiting.pop_first(ticket.tenant))

    def next_batch(self) -> list[tuple[Ticket, int]]:
        """Room for every answer, at the expense of who takes most; then tokens for everyone who moves, and charged."""
        gone: set[Ticket] = set()
        for ticket in tuple(self.running):
            while ticket not in gone and not self._engine.grow(ticket.run):
                if not self._free_room():
                    gone.add(self._give_way())
        others, longs = self._shares(self._moving())
        self._planned = sum(tokens for _, tokens in others), sum(tokens for _, tokens in longs)
        for ticket, tokens in (*others, *longs):
            self.charge(ticket.tenant, tokens)
        return [*others, *longs]

    def charge(self, tenant: str, tokens: int) -> None:
        """`tokens` are computed for `tenant`, which has requests here: of a batch, or what a step brought beyond it."""
        self._accounts.charge(tenant, tokens)

    def after_step(self, seconds: float) -> None:
        """The last batch was computed in so long. To be called before those whom it ended are finished. Mutates."""
        self._pace.note(*self._planned, seconds)
        for reader, run in self._copying:
            if reader.kv.length >= len(reader.request.suffix_ids):
                self._engine.copy(reader, run)

    def finish(self, tickets: Iterable[Ticket]) -> None:
        """Free what these hold, wherever they are."""
        gone = set(tickets)
        for ticket in gone:
            self._engine.end(ticket.run)
        self.running = [t for t in self.running if t not in gone]
        self.waiting.remove(gone)

    def _moving(self) -> list[Ticket]:
        """All who run but those whose question somebody before them reads or has read."""
        readers: dict[bytes, Run] = {}
        moving = []
        self._copying = []
        for ticket in self.running:
            run = ticket.run
            reader = readers.setdefault(run.question, run)
            if reader is run or run.begun or run.pending == 1:
                moving.append(ticket)
            else:
                self._copying.append((reader, run))
        return moving

    def _shares(self, moving: list[Ticket]) -> tuple[list[tuple[Ticket, int]], list[tuple[Ticket, int]]]:
        """Tokens of the next step, of those who move but for long questions, and of these."""
        longs = [ticket for ticket in moving if _is_long(ticket.run)]
        rest = [ticket for ticket in moving if not _is_long(ticket.run)]
        others = self._divide([(ticket, ticket.run.pending) for ticket in rest])
        if not longs or not (piece := self._pace.tokens(sum(tokens for _, tokens in others), _ratio(longs, rest))):
            return others, []
        shares = self._divide([*others, *self._pieces(piece, longs)])
        return shares[: len(others)], shares[len(others) :]

    def _pieces(self, budget: int, longs: Sequence[Ticket]) -> Iterator[tuple[Ticket, int]]:
        """`budget` tokens for one after another, since each reads the KV of all before it for however few.

        The tenant that has had least is first, and of its questions the one that is done soonest; now and then the one
        that came first, so that shorter ones do not hold it up for ever.
        """
        self._pieces_given += 1
        by_arrival = self._pieces_given % EVEN == 0
        had = {ticket.tenant: self._accounts.standing(ticket.tenant, 0) for ticket in longs}
        for ticket in sorted(longs, key=lambda t: (had[t.tenant], t.number if by_arrival else t.run.pending)):
            if not budget:
                return
            yield ticket, min(ticket.run.pending, budget)
            budget -= min(ticket.run.pending, budget)

    def _divide(self, pending: Sequence[tuple[Ticket, int]]) -> list[tuple[Ticket, int]]:
        """The tokens of a step, at least one for each, and no more than are pending."""
        tenants = [ticket.tenant for ticket, _ in pending]
        weights = {ticket.tenant: ticket.weight for ticket, _ in pending}
        wanted = [tokens for _, tokens in pending]
        shares = share_by_tenant(self._step_tokens, wanted, tenants, weights, self._limits(weights))
        return [(ticket, tokens) for (ticket, _), tokens in zip(pending, shares, strict=True)]

    def _limits(self, tenants: Iterable[str]) -> dict[str, int]:
        """Who must not lengthen a step by many questions: others' next question would wait for its end."""
        crowding = {tenant: BESIDE for tenant in tenants if self.waiting.count(tenant)}
        return {} if len(crowding) == len({t.tenant for t in self.running}) else crowding

    def _can_admit(self, ticket: Ticket) -> bool:
        if len(self.running) >= self._most:
            return False
        while not self._engine.admit(ticket.run):
            if not self._free_room():
                return False
        return True

    def _lend_places(self) -> None:
        """Let in whose tenant has saved for a place on top of its share."""
        for tenant in tuple(self.waiting.tenants):
            while len(self.running) == self._most and self.waiting.count(tenant):
                newcomer = self.waiting.first(tenant)
                lender = lending(self.running, self.waiting, self._accounts, newcomer)
                if lender is None:
                    break
                self._send_back(lender)
                if not self._can_admit(newcomer):
                    return
                newcomer.lender = lender.tenant
                self.running.append(self.waiting.pop_first(tenant))

    def _free_room(self) -> bool:
        """Drop the KV of one that waits, who has least to compute again. False: nobody who waits has any."""
        holding = [ticket.run for ticket in self.waiting if ticket.run.kv.capacity]
        if holding:
            self._engine.preempt(min(holding, key=lambda run: run.kv.length))
        return bool(holding)

    def _give_way(self) -> Ticket:
        """Send back the last to come of the tenant that takes most room for its weight.

        Somebody always gets on: room is asked for by a request that computes its next token with it, and one that is
        alone has room.
        """
        taken: Counter[str] = Counter()
        for ticket in self.running:
            taken[ticket.tenant] += ticket.run.kv.capacity
        leaving = max(last_to_come(self.running), key=lambda t: (taken[t.tenant] / t.weight, t.number))
        self._engine.preempt(leaving.run)
        self._send_back(leaving)
        return leaving

    def _send_back(self, ticket: Ticket) -> None:
        """To the head of its queue. Its tokens stay; their KV stays, too, until somebody who runs needs the room."""
        self.running.remove(ticket)
        self.waiting.append_first(ticket)
        ticket.lender = ""
        ticket.times.sent_back += 1
        self.preemptions += 1


def _is_long(run: Run) -> bool:
    """It still reads a question that is long."""
    return run.pending > 1 and run.unshared > LONG


def _ratio(longs: Sequence[Ticket], others: Sequence[Ticket]) -> float:
    """How many `longs` there are for each of `others`, where a tenant's tickets count as its weight together."""
    weights = {ticket.tenant: ticket.weight for ticket in (*longs, *others)}
    long, other = (Counter(ticket.tenant for ticket in tickets) for tickets in (longs, others))
    part = sum(weights[tenant] * count / (count + other[tenant]) for tenant, count in long.items())
    return part / (sum(weights.values()) - part) if others else math.inf
