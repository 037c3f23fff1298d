"""Who gives a place to whom when all are taken: the last to come of a tenant that has more than its share.

A share of the places is one by weight, and even where weights are. A tenant that has used less than its share of the
engine before may borrow more of them, for as long as its savings last (`fairness`); until the request that has a
borrowed place ends, the place counts as its lender's, who would take it back at once otherwise.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from quire.scheduler.fairness import EXPECTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quire.scheduler.fairness import Accounts
    from quire.scheduler.ticket import Ticket
    from quire.scheduler.waiting import Waiting


def last_to_come(running: Sequence[Ticket]) -> Iterable[Ticket]:
    """Of each tenant that runs, the last."""
    return {ticket.tenant: ticket for ticket in running}.values()


def owing(running: Sequence[Ticket], newcomer: Ticket) -> Ticket | None:
    """The last of whoever has most places for its weight, if it is still not behind the newcomer's tenant afterwards.

    So no place goes to and fro, and a newcomer need not wait until somebody's answer ends.
    """
    places = Counter(ticket.lender or ticket.tenant for ticket in running)
    others = [ticket for ticket in last_to_come(running) if ticket.tenant != newcomer.tenant]
    last = max(others, key=lambda t: (places[t.tenant] / t.weight, t.number), default=None)
    if last is None or (places[last.tenant] - 1) / last.weight < (places[newcomer.tenant] + 1) / newcomer.weight:
        return None
    return last


def lending(running: Sequence[Ticket], waiting: Waiting, accounts: Accounts, newcomer: Ticket) -> Ticket | None:
    """The last of a tenant that uses its share to the full, wants more, and has another place left.

    None if there is none, or if the newcomer's tenant has not saved enough for one loan more.
    """
    loans = sum(1 for ticket in running if ticket.lender and ticket.tenant == newcomer.tenant)
    if accounts.saved(newcomer.tenant) < EXPECTED * (loans + 1):
        return None
    places = Counter(ticket.tenant for ticket in running)
    crowding = [
        ticket
        for ticket in last_to_come(running)
        if ticket.tenant != newcomer.tenant
        and waiting.count(ticket.tenant)
        and places[ticket.tenant] > 1
        and accounts.saved(ticket.tenant) < EXPECTED
    ]
    return max(crowding, key=lambda t: (places[t.tenant] / t.weight, t.number), default=None)
