"""Who waits: by tenant, in order of arrival within each."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from quire.scheduler.ticket import Ticket


class Waiting:
    """One queue for each tenant that has any. Iterates over all who wait, the first of each tenant before its next."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Ticket]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[Ticket]:
        for queue in self._queues.values():
            yield from queue

    @property
    def tenants(self) -> Collection[str]:
        return self._queues.keys()

    def first(self, tenant: str) -> Ticket:
        return self._queues[tenant][0]

    def count(self, tenant: str) -> int:
        return len(self._queues.get(tenant, ()))

    def append(self, ticket: Ticket) -> None:
        self._queues.setdefault(ticket.tenant, deque()).append(ticket)

    def append_first(self, ticket: Ticket) -> None:
        self._queues.setdefault(ticket.tenant, deque()).appendleft(ticket)

    def remove(self, gone: Collection[Ticket]) -> None:
        kept = {tenant: deque(t for t in queue if t not in gone) for tenant, queue in self._queues.items()}
        self._queues = {tenant: queue for tenant, queue in kept.items() if queue}

    def pop_first(self, tenant: str) -> Ticket:
        return self._pop(tenant, 0)

    def pop_newest(self, tenant: str) -> Ticket:
        return self._pop(tenant, -1)

    def newest(self, tenant: str) -> Ticket:
        return self._queues[tenant][-1]

    def _pop(self, tenant: str, at: int) -> Ticket:
        queue = self._queues[tenant]
        ticket = queue[at]
        del queue[at]
        if not queue:
            del self._queues[tenant]
        return ticket
