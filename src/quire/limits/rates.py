"""Requests and tokens per minute, and requests at once, of each tenant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from quire.errors import RateLimited
from quire.limits.buckets import Bucket
from quire.limits.standing import Standing
from quire.settings import TenantLimits

PLACE_SECONDS = 1.0  # when to try again for a place: nobody knows when one of the others ends


@dataclass(frozen=True, slots=True)
class Place:
    """One of a tenant's requests at once. `name`: under which others know of it; "": only this process does."""

    tenant: str
    name: str = ""


class Rates(Protocol):
    """Thread-safe. `limits`: those of the tenant."""

    def arrive(self, tenant: str, limits: TenantLimits) -> Place:
        """A request begins. Mutates. Raises RateLimited: too many in a minute, or at once."""

    def leave(self, place: Place) -> None:
        """It has ended. Never waits. Mutates."""

    def take(self, tenant: str, limits: TenantLimits, tokens: int) -> None:
        """Take tokens. Mutates. Raises RateLimited: none are taken."""

    def give_back(self, tenant: str, limits: TenantLimits, tokens: int) -> None:
        """Tokens that were taken and not used; negative: used beyond what was taken. Never waits. Mutates."""

    def standing(self, tenant: str, limits: TenantLimits) -> Standing:
        """What the tenant has left, as far as is known here. Never waits."""

    def close(self) -> None:
        """Let go of what it holds. May be called twice."""


@dataclass(slots=True)
class _Tenant:
    requests: Bucket | None
    tokens: Bucket | None
    running: int = 0


class LocalRates:
    """`Rates` of this process alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._lock = threading.Lock()

    def arrive(self, tenant: str, limits: TenantLimits) -> Place:
        with self._lock:
            state, now = self._state(tenant, limits), self._clock()
            if limits.concurrent_requests and state.running >= limits.concurrent_requests:
                raise limited("concurrent_requests", limits.concurrent_requests, PLACE_SECONDS)
            if state.requests:
                if wait := state.requests.seconds_until(1, now):
                    raise limited("requests_per_minute", limits.requests_per_minute, wait)
                state.requests.take(1)
            state.running += 1
        return Place(tenant)

    def enter(self, tenant: str, limits: TenantLimits) -> None:
        """A request that others have let in. Mutates."""
        with self._lock:
            self._state(tenant, limits).running += 1

    def leave(self, place: Place) -> None:
        with self._lock:
            self._tenants[place.tenant].running -= 1

    def take(self, tenant: str, limits: TenantLimits, tokens: int) -> None:
        with self._lock:
            bucket = self._state(tenant, limits).tokens
            if bucket:
                if wait := bucket.seconds_until(tokens, self._clock()):
                    raise limited("tokens_per_minute", limits.tokens_per_minute, wait)
                bucket.take(tokens)

    def give_back(self, tenant: str, limits: TenantLimits, tokens: int) -> None:
        with self._lock:
            if bucket := self._state(tenant, limits).tokens:
                bucket.take(-tokens)

    def saw(
        self, tenant: str, limits: TenantLimits, *, requests: float | None = None, tokens: float | None = None
    ) -> None:
        """What others say is left: it goes on from there. Mutates."""
        with self._lock:
            state, now = self._state(tenant, limits), self._clock()
            for bucket, level in ((state.requests, requests), (state.tokens, tokens)):
                if bucket and level is not None:
                    bucket.set(level, now)

    def standing(self, tenant: str, limits: TenantLimits) -> Standing:
        with self._lock:
            state, now = self._state(tenant, limits), self._clock()
            requests, tokens = (bucket.left(now) if bucket else None for bucket in (state.requests, state.tokens))
            return Standing(requests, tokens)

    def close(self) -> None:
        """It holds nothing."""

    def _state(self, tenant: str, limits: TenantLimits) -> _Tenant:
        if tenant not in self._tenants:
            now = self._clock()
            rates = (limits.requests_per_minute, limits.tokens_per_minute)
            requests, tokens = (Bucket(rate, now) if rate else None for rate in rates)
            self._tenants[tenant] = _Tenant(requests, tokens)
        return self._tenants[tenant]


def limited(setting: str, limit: int, seconds: float) -> RateLimited:
    """The refusal by one of the fields of TenantLimits; it can be met again in `seconds`."""
    return RateLimited(
        f"the limit of {limit:,} {_WORDS[setting]} is reached",
        limit=setting,
        hint=f"try again in {max(seconds, 0.001):.3g} s",
        retry_seconds=seconds,
    )


_WORDS = {
    "concurrent_requests": "requests at once",
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
}
