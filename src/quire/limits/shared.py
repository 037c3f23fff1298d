"""`Rates` of all servers together, counted in Redis; each question is one script, which Redis runs as a whole.

A rate is a bucket, as in `quire.limits.buckets`: a level and when it was that. Requests at once are names with the
moment at which they count no more: a server renews its own, so those of one that died go by themselves.
All times are Redis' own, so that servers whose clocks differ agree.

While Redis is gone, each server goes on by itself from what was left when it last heard. What ends meanwhile is not
told: rates fill up again, and places run out.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from quire.coordination import Redis
from quire.limits.rates import PLACE_SECONDS, LocalRates, Place, limited
from quire.limits.standing import Standing
from quire.settings import TenantLimits

LEASE_SECONDS = 15.0
FLUSH_SECONDS = 0.3

_BUCKETS = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local function level_of(key, rate)
  local had = redis.call('HMGET', key, 'level', 'at')
  if not had[1] then return rate end
  return math.min(tonumber(had[1]) + math.max(0, now - tonumber(had[2])) * rate / 60000, rate)
end
local function keep(key, level, rate)
  redis.call('HSET', key, 'level', string.format('%.6f', level), 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', key, math.ceil((rate - level) * 60000 / rate) + 60000)
end
"""
# Gives {what is refused, seconds to wait, the level that is left}.
_ARRIVE = f"""{_BUCKETS}
local rate, most, name, lease = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= most then return {{'places', '0', '-1'}} end
end
local level = -1
if rate > 0 then
  level = level_of(KEYS[1], rate)
  if level < 1 then return {{'requests', tostring((1 - level) * 60 / rate), tostring(level)}} end
  level = level - 1
  keep(KEYS[1], level, rate)
end
if most > 0 then
  redis.call('ZADD', KEYS[2], now + lease, name)
  redis.call('PEXPIRE', KEYS[2], lease)
end
return {{'', '0', tostring(level)}}
"""
# Gives {seconds to wait, the level that is left}.
_TAKE = f"""{_BUCKETS}
local rate, amount = tonumber(ARGV[2]), tonumber(ARGV[3])
local level = level_of(KEYS[1], rate)
local missing = math.min(amount, rate) - level
if amount > 0 and missing > 0 and ARGV[4] ~= 'always' then
  return {{tostring(missing * 60 / rate), tostring(level)}}
end
level = math.min(level - amount, rate)
keep(KEYS[1], level, rate)
return {{'0', tostring(level)}}
"""
_RENEW = f"""{_BUCKETS}
local lease = tonumber(ARGV[2])
for index = 3, #ARGV do redis.call('ZADD', KEYS[1], now + lease, ARGV[index]) end
redis.call('PEXPIRE', KEYS[1], lease)
"""


class SharedRates:
    """Thread-safe. What need not be answered is told by a thread of its own, in order, before the next question."""

    def __init__(
        self,
        redis: Redis,
        local: LocalRates | None = None,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock`: seconds by which to count, for tests of what takes minutes; None: those of Redis."""
        self._redis = redis
        self._local = local or LocalRates()
        self._lease = lease_seconds
        self._clock = clock
        self._scripts = {name: redis.client.register_script(text) for name, text in _SCRIPTS.items()}
        self._places: dict[str, str] = {}  # tenant by name
        self._lock = threading.Lock()
        self._untold: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="quire-rates", daemon=True)
        self._thread.start()

    def arrive(self, tenant: str, limits: TenantLimits) -> Place:
        name = uuid.uuid4().hex
        keys = [self._key(tenant, "requests"), self._key(tenant, "places")]
        most = limits.concurrent_requests
        said = self._ask("arrive", keys, limits.requests_per_minute, most, name, int(self._lease * 1000))
        if said is None:
            return self._local.arrive(tenant, limits)
        refused, wait, level = said[0], float(said[1]), float(said[2])
        if limits.requests_per_minute and refused != "places":
            self._local.saw(tenant, limits, requests=level)
        if refused == "places":
            raise limited("concurrent_requests", most, PLACE_SECONDS)
        if refused:
            raise limited("requests_per_minute", limits.requests_per_minute, wait)
        self._local.enter(tenant, limits)
        if most:
            with self._lock:
                self._places[name] = tenant
        return Place(tenant, name if most else "")

    def leave(self, place: Place) -> None:
        self._local.leave(place)
        with self._lock:
            self._places.pop(place.name, None)
        if place.name:
            key = self._key(place.tenant, "places")
            self._untold.put(lambda: self._redis.client.zrem(key, place.name))

    def take(self, tenant: str, limits: TenantLimits, tokens: int) -> None:
        if not limits.tokens_per_minute:
            return
        said = self._ask("take", [self._key(tenant, "tokens")], limits.tokens_per_minute, tokens, "")
        if said is None:
            self._local.take(tenant, limits, tokens)
            return
        wait, level = float(said[0]), float(said[1])
        self._local.saw(tenant, limits, tokens=level)
        if wait:
            raise limited("tokens_per_minute", limits.tokens_per_minute, wait)

    def give_back(self, tenant: str, limits: TenantLimits, tokens: int) -> None:
        if not (limits.tokens_per_minute and tokens):
            return
        self._local.give_back(tenant, limits, tokens)
        key, rate = self._key(tenant, "tokens"), limits.tokens_per_minute
        self._untold.put(lambda: self._run_script("take", [key], rate, -tokens, "always"))

    def standing(self, tenant: str, limits: TenantLimits) -> Standing:
        return self._local.standing(tenant, limits)

    def close(self) -> None:
        if self._thread.is_alive():
            self._untold.put(None)
            self._thread.join()

    def _ask(self, script: str, keys: list[str], *arguments: str | int) -> list[str] | None:
        with self._untold.all_tasks_done:
            self._untold.all_tasks_done.wait_for(lambda: not self._untold.unfinished_tasks, timeout=FLUSH_SECONDS)
        return self._redis.ask(lambda: self._run_script(script, keys, *arguments))

    def _run_script(self, script: str, keys: list[str], *arguments: str | int) -> Any:
        now = "" if self._clock is None else str(int(self._clock() * 1000))
        return self._scripts[script](keys=keys, args=[now, *arguments])

    def _key(self, tenant: str, what: str) -> str:
        """The braces keep a tenant's keys together where Redis is a cluster."""
        return f"{self._redis.prefix}:{{{tenant}}}:{what}"

    def _run(self) -> None:
        renew_at = time.monotonic() + self._lease / 3
        while True:
            try:
                untold = self._untold.get(timeout=max(0.0, renew_at - time.monotonic()))
            except queue.Empty:
                self._renew()
                renew_at = time.monotonic() + self._lease / 3
                continue
            try:
                if untold is None:
                    return
                self._redis.ask(untold)
            finally:
                self._untold.task_done()

    def _renew(self) -> None:
        """Also those that Redis has lost meanwhile."""
        with self._lock:
            places = list(self._places.items())
        for tenant in {tenant for _, tenant in places}:
            names = [name for name, of in places if of == tenant]
            renew = partial(self._run_script, "renew", [self._key(tenant, "places")], int(self._lease * 1000), *names)
            self._redis.ask(renew)


_SCRIPTS = {"arrive": _ARRIVE, "take": _TAKE, "renew": _RENEW}
