"""Tokens of the calendar month (UTC), by tenant: counted in memory, written together now and then."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from quire.errors import QuireError
from quire.gathering import NowAndThen

EVERY_SECONDS = 5.0
log = logging.getLogger(__name__)
Of = tuple[str, str]  # (month such as 2026-11, tenant)


class UseStore(Protocol):
    """Where the use of months rests. Both raise RegistryError."""

    def used(self, month: str, tenant: str) -> int:
        """Tokens of all servers on this store, as far as they have written them."""

    def add(self, used: Mapping[Of, int]) -> dict[Of, int]:
        """Count more, all or none, and give what there is then. Mutates."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class MonthlyUse:
    """Thread-safe. A crash loses what was counted since the last write, at most `every_seconds` of use.

    Other servers on the same store are seen whenever this one writes.
    """

    def __init__(
        self, store: UseStore, *, every_seconds: float = EVERY_SECONDS, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._store = store
        self._clock = clock
        self._written: dict[Of, int] = {}
        self._more: Counter[Of] = Counter()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._writer = NowAndThen(self.flush, every_seconds, "quire-use")

    def used(self, tenant: str) -> int:
        """Tokens of this month. Asks the store when it hears of a tenant first. Raises RegistryError."""
        of = self._of(tenant)
        with self._lock:
            if of in self._written:
                return self._written[of] + self._more[of]
        written = self._store.used(*of)
        with self._lock:
            return self._written.setdefault(of, written) + self._more[of]

    def add(self, tenant: str, tokens: int) -> None:
        """Count `tokens`, computed now."""
        with self._lock:
            self._more[self._of(tenant)] += tokens
        self._writer.need()

    def seconds_left(self) -> float:
        """Until the next month begins, which is another budget."""
        now = self._clock()
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return ((first + timedelta(days=32)).replace(day=1) - now).total_seconds()

    def flush(self) -> None:
        """Write what was counted. What cannot be written now is written next time."""
        with self._writing:
            with self._lock:
                more = {of: tokens for of, tokens in self._more.items() if tokens}
            if not more:
                return
            try:
                written = self._store.add(more)
            except QuireError as error:
                log.warning("the use of %d tenants could not be written: %s", len(more), error.message)
                return
            with self._lock:
                self._more.subtract(more)
                self._more = +self._more
                self._written |= written

    def close(self) -> None:
        """Write what is left and stop. May be called twice."""
        self._writer.close()

    def _of(self, tenant: str) -> Of:
        return f"{self._clock():%Y-%m}", tenant
