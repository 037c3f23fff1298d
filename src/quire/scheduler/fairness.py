"""Whose turn it is: what each tenant has had of the engine, compared with its weight.

Start-time fair queueing (Goyal, Vin and Cheng, 1997) over tokens. A tenant's account is the tokens computed for it,
divided by its weight, and the one with the least is next. Tokens are charged when they are computed, for nobody knows
before how long an answer will be; until then each running request counts as EXPECTED tokens, or else a tenant that
comes with hundreds of requests would be let in with all of them before the first is charged.

A tenant of whom nobody waits is not held back. When its next request comes, its account is brought up to the least of
those who do wait. What it is brought up by it has saved, up to a bound, and savings are used up before the account is
charged: so requests that come together find a share that was left unused shortly before, as with the warp of borrowed
virtual time (Duda and Cheriton, 1999). Beyond that nobody saves up turns, and nobody is made to wait for having used
an engine that no one else wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

EXPECTED = 64  # tokens
EVEN = 4  # of what a tenant's questions have in a step, this part goes to all of them alike
NO_LIMITS: Mapping[str, int] = MappingProxyType({})


@dataclass(slots=True)
class Account:
    """`had`: tokens by weight. `saved`: tokens, which are used up before more is had."""

    weight: int
    had: float
    saved: float


class Accounts:
    """Of every tenant that has requests here, and of those that left and are not yet as one who never came."""

    def __init__(self, most_saved: int) -> None:
        """`most_saved`: tokens that a tenant can save; who comes for the first time has them."""
        self._most_saved = most_saved
        self._of: dict[str, Account] = {}

    def arrive(self, tenant: str, weight: int, waiting: Collection[str], running: Collection[str]) -> None:
        """A request of `tenant` came. Mutates.

        Args:
            waiting, running: the tenants that had requests which wait, and which run, before.
        """
        if tenant in waiting:
            return
        present = {*waiting, *running}
        if not present:
            self._of = {}  # nobody was here: all are equal again
        least = min((self._of[other].had for other in waiting or present - {tenant}), default=0.0)
        self._of = {name: one for name, one in self._of.items() if name in present or not self._like_new(one, least)}
        account = self._of.setdefault(tenant, Account(weight, least, self._most_saved))
        account.weight = weight
        behind = max(0.0, least - account.had)
        account.had += behind
        account.saved = min(account.saved + behind * weight, self._most_saved)

    def charge(self, tenant: str, tokens: int) -> None:
        """`tokens` are computed for `tenant`. Mutates."""
        account = self._of[tenant]
        paid = min(tokens, account.saved)
        account.saved -= paid
        account.had += (tokens - paid) / account.weight

    def standing(self, tenant: str, running: int) -> float:
        """What counts when a place is given away: the least is next."""
        account = self._of[tenant]
        return account.had + (EXPECTED * running - account.saved) / account.weight

    def saved(self, tenant: str) -> float:
        """Tokens of a share that was left unused."""
        return self._of[tenant].saved

    def _like_new(self, account: Account, least: float) -> bool:
        return account.saved + (least - account.had) * account.weight >= self._most_saved


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


def soonest(budget: int, pending: Sequence[int]) -> list[int]:
    """Tokens for each of `pending`, `budget` in all: most of them to those who are done soonest, the first of equals.

    Questions that are read one after another wait half as long in the mean as those read side by side (shortest
    remaining time first; Schrage, 1968). A part goes to all of them, so that a long one is not held up for ever.
    """
    shares = share(budget // EVEN, pending)
    left = budget - sum(shares)
    for i in sorted(range(len(pending)), key=lambda i: pending[i] - shares[i]):
        more = min(left, pending[i] - shares[i])
        shares[i] += more
        left -= more
    return shares


def share_by_tenant(
    budget: int,
    pending: Sequence[int],
    tenants: Sequence[str],
    weights: Mapping[str, int],
    limits: Mapping[str, int] = NO_LIMITS,
) -> list[int]:
    """One token for everybody, the rest by weight among `tenants`, and among the requests of each as `soonest` says.

    Args:
        budget: at least one for each of `pending`, which are at least 1.
        limits: most of the rest, for some of the tenants.
    """
    groups: dict[str, list[int]] = {}
    for i, tenant in enumerate(tenants):
        groups.setdefault(tenant, []).append(i)
    wanted = {tenant: sum(pending[i] - 1 for i in group) for tenant, group in groups.items()}
    wanted |= {tenant: min(wanted[tenant], most) for tenant, most in limits.items()}
    left, weight = budget - len(pending), sum(weights[tenant] for tenant in groups)
    shares = [1] * len(pending)
    for tenant in sorted(groups, key=lambda name: wanted[name] / weights[name]):  # who wants little first
        part = min(wanted[tenant], left * weights[tenant] // weight)
        left, weight = left - part, weight - weights[tenant]
        for i, more in zip(groups[tenant], soonest(part, [pending[i] - 1 for i in groups[tenant]]), strict=True):
            shares[i] += more
    return shares
