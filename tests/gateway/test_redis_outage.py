"""Redis gone for half a minute, stopped or killed: answers go on, limits hold as documented, and all of it heals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from services.postgres import Postgres
from services.redis import RedisServer

from quire import open_project
from quire.registry import Registry

from .process import Server

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

OUTAGE_SECONDS = 30.0
LOOKS = 5.0  # seconds between two looks at the registry: long enough to tell them from word by Redis
A_MINUTE = 60  # requests that the tenant may make in one: one a second


@pytest.fixture
def servers(
    postgres: Postgres, tmp_path: Path, write_project: Callable[..., Path]
) -> Iterator[tuple[Server, Server, RedisServer, Path]]:
    redis, root, url = RedisServer(), tmp_path / "shop", postgres.new_database()
    settings = {"registry.url": url, "registry.poll_seconds": LOOKS, "redis.url": redis.url}
    write_project(root, {"prices": "A bolt costs 3 pounds. " * 4, "wrong": "A nut costs 9 pounds. " * 4}, **settings)
    with (root / "quire.toml").open("a", encoding="utf-8") as toml:
        toml.write(f"[limits.default]\nrequests_per_minute = {A_MINUTE}\n")
    with open_project(root) as project:
        project.build()
    with ExitStack() as stack:
        stack.callback(redis.close)
        one, other = (stack.enter_context(Server(root)) for _ in range(2))
        yield one, other, redis, root


def ask(server: Server, module: str = "prices") -> str:
    """``answered``, or the code of the refusal."""
    body = {"model": f"quire/{module}", "messages": [{"role": "user", "content": "What?"}], "max_tokens": 1}
    said = server.post("/v1/chat/completions", json=body).json()
    return "answered" if "quire" in said else str(said["error"]["code"])


def follows_within(server: Server, registry: Registry) -> float:
    """Seconds until a server has taken over what was changed last."""
    began = time.monotonic()
    while server.metric("quire_registry_applied_generation") < registry.generation():
        assert time.monotonic() - began < 3 * LOOKS
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_half_a_minute_without_redis(servers: tuple[Server, Server, RedisServer, Path], how: str) -> None:
    one, other, redis, root = servers
    both = (one, other)
    assert [ask(both[n % 2]) for n in range(20)] == ["answered"] * 20
    with open_project(root) as project:
        registry = project.registry
        wrong = registry.live("wrong").version
        redis.pause() if how == "stopped" else redis.kill()
        try:
            began, revoked = time.monotonic(), False
            seconds: list[float] = []
            answered = dict.fromkeys(both, 0)
            while (now := time.monotonic()) - began < OUTAGE_SECONDS:
                if not revoked and now - began > OUTAGE_SECONDS / 3:
                    revoked = True
                    body = {"version": wrong, "reason": "it is wrong"}
                    assert one.post("/v1/admin/modules/wrong/revoke", json=body).status_code == 200
                    assert follows_within(other, registry) < LOOKS + 3, "by the next look"
                for server in both:
                    since = time.monotonic()
                    said = ask(server)
                    seconds.append(time.monotonic() - since)
                    assert said in {"answered", "rate_limit_exceeded"}
                    answered[server] += said == "answered"
                time.sleep(0.05)
            assert sorted(seconds)[-2] < 2.0, "nobody waits for Redis; one may for the machine"
            most = A_MINUTE - 20 + (time.monotonic() - began) * A_MINUTE / 60 + 20  # each by itself, from what was left
            for count in answered.values():
                assert OUTAGE_SECONDS * A_MINUTE / 60 * 0.8 < count < most, answered
        finally:
            redis.resume() if how == "stopped" else redis.start()
        time.sleep(2)
        together, began = 0, time.monotonic()
        while (got := [ask(server) for server in both]) != ["rate_limit_exceeded"] * 2:
            together += got.count("answered")
            assert time.monotonic() - began < 60
        assert together <= A_MINUTE + (time.monotonic() - began) + 3, "one bucket for both again"
        time.sleep(3)  # until a request's worth has flown in
        assert ask(one, "wrong") == ask(other, "wrong") == "no_live_version", "what was revoked does not come back"
        version = registry.live("prices").version
        took = []
        for change in (registry.pin, registry.unpin, registry.pin):  # by a third process, which tells through Redis
            change("prices", version, actor="test", reason="a change")
            took.append(max(follows_within(server, registry) for server in both))
        assert sorted(took)[1] < 1.0, "by word, and not by a look"
