"""Nobody gets more than is allowed, nobody less, and nothing is forgotten when the server restarts."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from services.redis import RedisServer
from services.registries import locked

from quire.errors import QuotaExhausted, RateLimited
from quire.limits import Admission, Limiter, LocalRates, MonthlyUse, Rates, SharedRates
from quire.registry import Registry
from quire.settings import TenantLimits


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.month = 11

    def __call__(self) -> float:
        return self.seconds

    def today(self) -> datetime:
        return datetime(2026, self.month, 24, tzinfo=UTC)


MakeLimiter = Callable[..., Limiter]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["process", pytest.param("redis", marks=pytest.mark.services)])
def rates_of(request: pytest.FixtureRequest) -> Iterator[Callable[[Clock], Rates]]:
    """Rates counted in this process, or in Redis, by a clock."""
    opened: list[SharedRates] = []

    def made(clock: Clock) -> Rates:
        if request.param == "process":
            return LocalRates(clock)
        server: RedisServer = request.getfixturevalue("redis_server")
        opened.append(SharedRates(server.connect(), LocalRates(clock), clock=clock))
        return opened[-1]

    yield made
    for one in opened:
        one.close()


@pytest.fixture
def make(registry: Registry, clock: Clock, rates_of: Callable[[Clock], Rates]) -> Iterator[MakeLimiter]:
    """A limiter with the same limits for everybody."""
    opened: list[Limiter] = []

    def made(**limits: Any) -> Limiter:
        monthly = MonthlyUse(registry.use, clock=clock.today)
        opened.append(Limiter(lambda _: TenantLimits(**limits), monthly, rates_of(clock)))
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def test_requests_per_minute(make: MakeLimiter, clock: Clock) -> None:
    limiter = make(requests_per_minute=6)
    for _ in range(6):
        limiter.arrive("acme").close(0)
    with pytest.raises(RateLimited, match="6 requests per minute") as refused:
        limiter.arrive("acme")
    assert refused.value.retry_seconds == pytest.approx(10)
    limiter.arrive("other").close(0)
    clock.seconds += 9.9
    with pytest.raises(RateLimited):
        limiter.arrive("acme")
    clock.seconds += 0.2
    limiter.arrive("acme").close(0)
    left = limiter.standing("acme").requests
    assert left is not None
    assert (left.limit, left.remaining) == (6, 0)
    clock.seconds += 3600
    assert limiter.standing("acme").requests == type(left)(6, 6, 0.0), "an idle hour saves up one minute's worth"


def test_requests_at_once(make: MakeLimiter) -> None:
    limiter = make(concurrent_requests=2)
    first, _ = limiter.arrive("acme"), limiter.arrive("acme")
    with pytest.raises(RateLimited, match="2 requests at once"):
        limiter.arrive("acme")
    limiter.arrive("other")
    first.close(0)
    first.close(0)
    limiter.arrive("acme")
    with pytest.raises(RateLimited):
        limiter.arrive("acme")


def test_tokens_per_minute_are_those_that_were_computed(make: MakeLimiter, clock: Clock) -> None:
    limiter = make(tokens_per_minute=600)
    one, two = limiter.arrive("acme"), limiter.arrive("acme")
    one.reserve(400)
    with pytest.raises(RateLimited, match="600 tokens per minute") as refused:
        two.reserve(300)
    assert refused.value.retry_seconds == pytest.approx(10)
    one.close(50)  # it stopped early: what it did not use is there again
    two.reserve(300)
    left = limiter.standing("acme").tokens
    assert left is not None
    assert left.remaining == 250
    two.close(300)
    clock.seconds += 1
    assert limiter.standing("acme").tokens == type(left)(600, 260, 34.0)


def test_a_request_larger_than_a_minute_needs_all_of_it_and_is_paid_for_later(make: MakeLimiter, clock: Clock) -> None:
    limiter = make(tokens_per_minute=60)
    large = limiter.arrive("acme")
    large.reserve(120)
    large.close(120)
    with pytest.raises(RateLimited) as refused:
        limiter.arrive("acme").reserve(1)
    assert refused.value.retry_seconds == pytest.approx(61)
    clock.seconds += 61
    limiter.arrive("acme").reserve(1)


def test_a_month_is_never_overdrawn_and_ends(make: MakeLimiter, clock: Clock) -> None:
    limiter = make(monthly_tokens=1000)
    for _ in range(2):
        one = limiter.arrive("acme")
        one.reserve(400)
        one.close(400)
    under_way = limiter.arrive("acme")
    under_way.reserve(150)
    with pytest.raises(QuotaExhausted, match="800 are used, requests under way may need 150") as refused:
        limiter.arrive("acme").reserve(100)
    assert refused.value.retry_seconds == 7 * 86_400, "from the 24th of November to the first of December"
    under_way.close(20)
    limiter.arrive("acme").reserve(100)
    clock.month = 12
    limiter.arrive("acme").reserve(900)


def test_a_request_that_ends_just_now_is_either_reserved_or_used(registry: Registry) -> None:
    """It ends right after another has looked what was used, and before that one looks what is reserved."""

    class Interrupted(MonthlyUse):
        ends: Admission | None = None

        def used(self, tenant: str) -> int:
            seen = super().used(tenant)
            if self.ends is not None:
                ends, self.ends = self.ends, None
                ends.close(60)
            return seen

    use = Interrupted(registry.use, every_seconds=3600)
    limiter = Limiter(lambda _: TenantLimits(monthly_tokens=100), use)
    first, second = limiter.arrive("acme"), limiter.arrive("acme")
    first.reserve(60)
    use.ends = first
    with pytest.raises(QuotaExhausted, match="60 are used"):
        second.reserve(60)


def test_an_exhausted_month_refuses_at_the_door(make: MakeLimiter) -> None:
    limiter = make(monthly_tokens=10)
    one = limiter.arrive("acme")
    one.close(10)
    with pytest.raises(QuotaExhausted):
        limiter.arrive("acme")


def test_whatever_is_refused_leaves_nothing_behind(make: MakeLimiter) -> None:
    limiter = make(tokens_per_minute=100, concurrent_requests=1, monthly_tokens=1000)
    one = limiter.arrive("acme")
    one.reserve(100)
    with pytest.raises(RateLimited):
        one.reserve(100)
    one.close(0)
    again = limiter.arrive("acme")
    again.reserve(100)
    again.close(0)
    late = limiter.arrive("acme")
    late.close(0)
    late.reserve(100)  # a caller that went away while its question was prepared
    limiter.arrive("acme").reserve(100)


def test_use_is_kept_over_a_restart_and_counted_over_servers(registry: Registry, clock: Clock) -> None:
    servers = [MonthlyUse(registry.use, clock=clock.today) for _ in range(2)]
    for tokens, server in zip((300, 500), servers, strict=True):
        assert server.used("acme") == 0
        server.add("acme", tokens)
    servers[0].close()
    assert servers[1].used("acme") == 500, "not written yet"
    servers[1].flush()
    assert servers[1].used("acme") == 800
    servers[1].close()
    assert MonthlyUse(registry.use, clock=clock.today).used("acme") == 800
    assert registry.use.all("2026-11") == {"acme": 800}
    clock.month = 12
    assert MonthlyUse(registry.use, clock=clock.today).used("acme") == 0


def test_writes_are_gathered(registry: Registry) -> None:
    """A thousand requests do not make a thousand transactions."""
    use = MonthlyUse(registry.use, every_seconds=3600)
    month = f"{datetime.now(UTC):%Y-%m}"
    for _ in range(1000):
        use.add("acme", 3)
    assert registry.use.all(month) == {}
    use.close()
    assert registry.use.all(month) == {"acme": 3000}


def test_use_that_cannot_be_written_now_is_written_later(place: str, caplog: pytest.LogCaptureFixture) -> None:
    with Registry.open(place, busy_seconds=0.1) as registry:
        use = MonthlyUse(registry.use, every_seconds=3600)
        use.add("acme", 70)
        with locked(place):
            use.flush()
        assert "could not be written" in caplog.text
        assert use.used("acme") == 70
        use.close()
        assert sum(registry.use.all(f"{datetime.now(UTC):%Y-%m}").values()) == 70


def use_from_another_process(place: str, tenant: str) -> None:
    with Registry.open(place, busy_seconds=30) as registry:
        for _ in range(25):
            registry.use.add({("2026-11", tenant): 2, ("2026-11", "both"): 1})


def test_processes_that_count_together_lose_nothing(place: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=use_from_another_process, args=(place, f"t{n}")) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with Registry.open(place) as registry:
        assert registry.use.all("2026-11") == {"t0": 50, "t1": 50, "both": 50}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_no_window_of_a_minute_has_more_than_two_minutes_worth(seed: int) -> None:
    """A bucket that was full lets through what it holds, and then what flows in: never more, however it is asked."""
    draw, clock = random.Random(seed), Clock()
    rate = draw.randint(1, 50)
    limiter = Limiter(lambda _: TenantLimits(requests_per_minute=rate), _Nothing(), clock=clock)
    passed: list[float] = []
    waits: list[float] = []
    for _ in range(400):
        clock.seconds += draw.expovariate(draw.choice([0.5, 5]))
        try:
            limiter.arrive("acme").close(0)
        except RateLimited as refused:
            waits.append(refused.retry_seconds)
        else:
            passed.append(clock.seconds)
    assert all(0 < wait <= 60 / rate + 1e-6 for wait in waits)
    for i, start in enumerate(passed):
        within = sum(1 for moment in passed[i:] if moment < start + 60)
        assert within <= 2 * rate + 1
    assert len(passed) >= min(400, rate), "and what is allowed is let through"


def test_threads_do_not_share_a_place(registry: Registry) -> None:
    limiter = Limiter(lambda _: TenantLimits(concurrent_requests=3), MonthlyUse(registry.use))
    most, now, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, now
        for _ in range(200):
            try:
                admission = limiter.arrive("acme")
            except RateLimited:
                continue
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1
            admission.close(0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3
    limiter.arrive("acme")


class _Nothing(MonthlyUse):
    """No months here."""

    def __init__(self) -> None:
        pass

    def used(self, tenant: str) -> int:
        raise AssertionError(f"nobody limits {tenant}'s month")
