"""Who may begin now, and what it is charged.

A request arrives (a request per minute, a place among those at once, something left of the month), reserves the tokens
that it may need, and when it ends it is charged those that were computed for it. Tokens restored from modules and
sessions are not computed, and cost nothing.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from quire.errors import QuotaExhausted
from quire.limits.monthly import MonthlyUse
from quire.limits.rates import LocalRates, Place, Rates
from quire.limits.standing import Standing
from quire.settings import TenantLimits


@dataclass(eq=False, slots=True)
class Admission:
    """A request under way. Close it, whatever becomes of it."""

    limiter: Limiter
    place: Place
    reserved: int = 0
    closed: bool = field(default=False)

    def reserve(self, tokens: int) -> None:
        """Set `tokens` aside for it. Raises RateLimited, QuotaExhausted: nothing more is set aside."""
        self.limiter.reserve(self, tokens)

    def close(self, computed: int) -> None:
        """It has ended, and `computed` tokens were computed for it. May be called twice."""
        self.limiter.close_admission(self, computed)

    @property
    def tenant(self) -> str:
        return self.place.tenant

    @property
    def standing(self) -> Standing:
        """What the tenant has left now."""
        return self.limiter.standing(self.tenant)


class Limiter:
    """Thread-safe. Rates are as `rates` counts them; months are counted over all servers on one registry."""

    def __init__(
        self,
        limits_of: Callable[[str], TenantLimits],
        monthly: MonthlyUse,
        rates: Rates | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rates`: None: those of this process, by `clock`."""
        self._limits_of = limits_of
        self._monthly = monthly
        self._rates: Rates = rates or LocalRates(clock)
        self._reserved: defaultdict[str, int] = defaultdict(int)  # by tenant: all of it may yet be computed
        self._lock = threading.Lock()

    def arrive(self, tenant: str) -> Admission:
        """A request of `tenant` begins. May ask other servers, so call it from a thread. Mutates.

        Raises:
            RateLimited: too many in a minute, or at once. QuotaExhausted: the month's tokens are used up.
        """
        self._hear_of(tenant)
        with self._lock:
            self._check_month(tenant, 1)
        return Admission(self, self._rates.arrive(tenant, self._limits_of(tenant)))

    def reserve(self, admission: Admission, tokens: int) -> None:
        """See `Admission.reserve`. May ask other servers. Mutates."""
        tenant = admission.tenant
        self._hear_of(tenant)
        with self._lock:
            if admission.closed:  # its caller went away meanwhile
                return
            self._check_month(tenant, tokens)
            self._reserved[tenant] += tokens
            admission.reserved += tokens
        limits = self._limits_of(tenant)
        try:
            self._rates.take(tenant, limits, tokens)
        except BaseException:
            self._not_taken(admission, limits, tokens)
            raise

    def _not_taken(self, admission: Admission, limits: TenantLimits, tokens: int) -> None:
        with self._lock:
            if admission.closed:  # meanwhile, which has given back what it never got
                self._rates.give_back(admission.tenant, limits, -tokens)
            else:
                self._reserved[admission.tenant] -= tokens
                admission.reserved -= tokens

    def close_admission(self, admission: Admission, computed: int) -> None:
        """See `Admission.close`. Never waits. Mutates."""
        tenant = admission.tenant
        with self._lock:
            if admission.closed:
                return
            admission.closed = True
            self._reserved[tenant] -= admission.reserved
            if computed:  # before the lock is left: nobody may see these tokens neither reserved nor used
                self._monthly.add(tenant, computed)
        self._rates.give_back(tenant, self._limits_of(tenant), admission.reserved - computed)
        self._rates.leave(admission.place)

    def standing(self, tenant: str) -> Standing:
        """What `tenant` has left of its rates, as far as is known here."""
        return self._rates.standing(tenant, self._limits_of(tenant))

    def close(self) -> None:
        """Write what was used. May be called twice."""
        self._rates.close()
        self._monthly.close()

    def _hear_of(self, tenant: str) -> None:
        """Let the store be asked before the lock is taken: afterwards the month's use is known in memory."""
        if self._limits_of(tenant).monthly_tokens:
            self._monthly.used(tenant)

    def _check_month(self, tenant: str, wanted: int) -> None:
        """Those under way count with all that they may need, so that a month is never overdrawn. Needs the lock."""
        budget, reserved = self._limits_of(tenant).monthly_tokens, self._reserved[tenant]
        used = self._monthly.used(tenant) if budget else 0
        if budget and used + reserved + wanted > budget:
            raise QuotaExhausted(
                f"this month's budget is {budget:,} tokens; {used:,} are used, requests under way may need "
                f"{reserved:,}, and this one needs {wanted:,}",
                hint="wait for the next month, or ask the operator for more",
                retry_seconds=self._monthly.seconds_left(),
                limit="monthly_tokens",
            )
