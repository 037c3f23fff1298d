"""Servers that count together in Redis let through what one would, and go on by themselves while it is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from services.redis import RedisServer

from quire.coordination import Notices, Redis
from quire.errors import InvalidSetting, RateLimited
from quire.limits import LocalRates, SharedRates
from quire.settings import TenantLimits

pytestmark = pytest.mark.services
Open = Callable[..., SharedRates]


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"test-{time.monotonic_ns()}"


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The shared server, which runs again afterwards."""
    yield redis_server
    redis_server.resume()
    if not redis_server.runs:
        redis_server.start()


@pytest.fixture
def rates(server: RedisServer, prefix: str) -> Iterator[Open]:
    """Opens the rates of one more server."""
    opened: list[tuple[SharedRates, Redis]] = []

    def open_one(**more: float) -> SharedRates:
        redis = server.connect(prefix)
        opened.append((SharedRates(redis, **more), redis))  # type: ignore[arg-type]
        return opened[-1][0]

    yield open_one
    for one, redis in opened:
        one.close()
        redis.close()


def passes(call: Callable[[], object]) -> bool:
    try:
        call()
    except RateLimited:
        return False
    return True


def test_two_servers_together_let_through_what_one_may(rates: Open) -> None:
    """Each asks from four threads at once: no count is lost between them."""
    limits = TenantLimits(requests_per_minute=50, concurrent_requests=0)
    servers = [rates(), rates()]
    passed: list[bool] = []

    def ask(server: SharedRates) -> None:
        for _ in range(25):
            passed.append(passes(lambda: server.arrive("acme", limits)))

    began = time.monotonic()
    threads = [threading.Thread(target=ask, args=(server,)) for server in servers for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refilled = (time.monotonic() - began) * 50 / 60
    assert 50 <= sum(passed) <= 50 + refilled + 1
    assert passes(lambda: servers[0].arrive("globex", limits)), "another tenant has its own"


def test_tokens_are_counted_together_and_what_is_not_used_comes_back(rates: Open) -> None:
    limits = TenantLimits(tokens_per_minute=6000)
    one, other = rates(), rates()
    one.take("acme", limits, 5000)
    with pytest.raises(RateLimited) as refused:
        other.take("acme", limits, 3000)
    assert 15 < refused.value.retry_seconds <= 20
    one.give_back("acme", limits, 4000)
    one.take("acme", limits, 1)  # waits until what came before is told
    other.take("acme", limits, 3000)
    standing = other.standing("acme", limits)
    assert standing.tokens is not None
    assert 1900 <= standing.tokens.remaining <= 2300


def test_places_are_counted_together_and_those_of_a_dead_server_run_out(rates: Open) -> None:
    limits = TenantLimits(concurrent_requests=2)
    dead, alive = rates(lease_seconds=1.0), rates(lease_seconds=1.0)
    dead.arrive("acme", limits)
    place = alive.arrive("acme", limits)
    assert not passes(lambda: alive.arrive("acme", limits))
    time.sleep(1.5)
    assert not passes(lambda: alive.arrive("acme", limits)), "both are renewed"
    alive.leave(place)
    place = alive.arrive("acme", limits)
    dead.close()  # it renews nothing any more, as if it were dead
    time.sleep(1.2)
    assert passes(lambda: alive.arrive("acme", limits))
    assert not passes(lambda: alive.arrive("acme", limits)), "its own still counts"


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_without_redis_each_server_goes_on_from_what_was_left(server: RedisServer, rates: Open, how: str) -> None:
    limits = TenantLimits(requests_per_minute=6, tokens_per_minute=60, concurrent_requests=5)
    one = rates()
    places = [one.arrive("acme", limits) for _ in range(4)]
    one.take("acme", limits, 50)
    getattr(server, how)()
    began = time.monotonic()
    places.append(one.arrive("acme", limits))
    assert not passes(lambda: one.arrive("acme", limits)), "at once as many as may be, of this server"
    assert not passes(lambda: one.take("acme", limits, 50)), "ten are left, and not sixty"
    assert time.monotonic() - began < 2.0
    began = time.monotonic()
    for place in places:
        one.leave(place)
    assert time.monotonic() - began < 0.25, "who ends something waits for nobody"
    server.resume() if how == "pause" else server.start()
    time.sleep(1.2)
    other = rates()
    assert passes(lambda: other.arrive("globex", limits))
    assert passes(lambda: one.arrive("globex", limits))


def test_what_runs_counts_again_after_redis_has_lost_it(server: RedisServer, rates: Open) -> None:
    limits = TenantLimits(concurrent_requests=1)
    one, other = rates(lease_seconds=1.5), rates(lease_seconds=1.5)
    one.arrive("acme", limits)
    server.kill()
    server.start()
    time.sleep(2.0)
    assert not passes(lambda: other.arrive("acme", limits))


def test_word_of_a_change_arrives_in_a_moment_also_after_redis_was_gone(server: RedisServer, prefix: str) -> None:
    teller, hearer = Notices(server.connect(prefix)), Notices(server.connect(prefix))
    heard: list[int] = []
    teller.tell(3)
    hearer.listen(heard.append)
    until(lambda: heard == [3])
    began = time.monotonic()
    teller.tell(4)
    until(lambda: heard == [3, 4])
    assert time.monotonic() - began < 1
    server.kill()
    teller.tell(5)  # nobody hears it: the next look at the registry finds the change
    server.start()
    time.sleep(1.5)
    teller.tell(6)
    until(lambda: heard[-1] == 6)
    hearer.close()


def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_url_that_names_no_redis_is_a_setting_to_mend() -> None:
    from quire.coordination import open_redis

    with pytest.raises(InvalidSetting, match=r"redis\.url") as raised:
        open_redis("http://ann:s3cret@host", "quire")
    assert "s3cret" not in raised.value.message
    assert open_redis("redis://ann:s3cret@host:1/0", "quire").place == "redis://host:1/0"
    with pytest.raises(InvalidSetting):
        open_redis("redis://host:none/0", "quire")


def test_rates_of_one_process_and_of_all_say_the_same(rates: Open) -> None:
    limits = TenantLimits(requests_per_minute=10, tokens_per_minute=100)
    local, shared = LocalRates(), rates()
    for one in (local, shared):
        one.arrive("acme", limits)
        one.take("acme", limits, 30)
    for mine, theirs in zip(
        (local.standing("acme", limits).requests, local.standing("acme", limits).tokens),
        (shared.standing("acme", limits).requests, shared.standing("acme", limits).tokens),
        strict=True,
    ):
        assert mine is not None
        assert theirs is not None
        assert (mine.limit, mine.remaining) == (theirs.limit, theirs.remaining)
