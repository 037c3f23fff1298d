"""Two servers on one PostgreSQL: what is changed by one holds for the other within a second, also around an outage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from services.postgres import Postgres
from services.redis import RedisServer

from quire import open_project
from quire.cli.opening import open_project as open_for_command
from quire.cli.screen import Screen
from quire.registry import Registry

from .process import Server

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

OUTAGE_SECONDS = 30.0
PRICE = "A bolt costs {} pounds. A nut costs 1 pound. "


@dataclass(frozen=True, slots=True)
class Two:
    """Two servers, the project that they serve, and the versions of its module `prices`, oldest first."""

    root: Path
    url: str
    database: Postgres
    servers: tuple[Server, Server]
    versions: tuple[str, str]

    def answers_from(self, server: int) -> str | None:
        """The version that answers, or the code of the refusal."""
        body = {"model": "quire/prices", "messages": [{"role": "user", "content": "What does a bolt cost?"}]}
        said = self.servers[server].post("/v1/chat/completions", json={**body, "max_tokens": 1}).json()
        version: str = said["quire"]["version"] if "quire" in said else said["error"]["code"]
        return version

    def change(self, server: int, action: str, version: str) -> httpx.Response:
        path = f"/v1/admin/modules/prices/{action}"
        return self.servers[server].post(path, json={"version": version, "reason": "a test"})

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            "from quire.cli import main; main()",
            *arguments,
            "--project",
            str(self.root),
            "--json",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A server of this suite's own, which it stops and kills."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def two(database: Postgres, tmp_path: Path, write_project: Callable[..., Path]) -> Iterator[Two]:
    root, url = tmp_path / "shop", database.new_database()
    versions = []
    for price in ("3", "4"):
        write_project(root, {"prices": PRICE.format(price) * 4}, **{"registry.url": url})
        with open_project(root) as project:
            project.build()
            versions.append(project.registry.live("prices").version)
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(root)) for _ in range(2)]
        yield Two(root, url, database, (servers[0], servers[1]), (versions[0], versions[1]))


def seconds_until(holds: Callable[[], bool], *, most: float = 10.0) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < most, "it did not come about"
        time.sleep(0.01)
    return time.monotonic() - began


def test_what_one_server_changes_the_other_follows_within_a_second(two: Two) -> None:
    old, new = two.versions
    assert two.answers_from(0) == two.answers_from(1) == new
    for action, version, wanted in (
        ("rollback", old, old),
        ("publish", new, new),
        ("rollback", old, old),
    ):
        changed = two.change(0, action, version)
        assert changed.status_code == 200, changed.text
        assert changed.headers["quire-unconfirmed"] == "0"
        assert two.answers_from(0) == wanted, "who made the change sees it at once"
        assert two.answers_from(1) == wanted, "both have confirmed it"
    with Registry.open(two.url) as registry:  # by none of them, and nobody waits for it
        registry.publish("prices", new, actor="ann", reason="a test")
        taken = [seconds_until(lambda n=n: two.answers_from(n) == new) for n in (0, 1)]  # type: ignore[misc]
        registry.revoke("prices", new, actor="ann", reason="it is wrong")
        taken += [seconds_until(lambda n=n: two.answers_from(n) == "no_live_version") for n in (0, 1)]  # type: ignore[misc]
    assert sorted(taken)[-2] < 1.0, f"one may wait for the machine: {taken}"


def test_the_command_line_waits_for_the_servers_and_names_those_that_do_not_follow(two: Two) -> None:
    old, _new = two.versions
    listed = json.loads(two.cli("gateways").stdout)
    assert [one["behind"] for one in listed["gateways"]] == [0, 0]
    done = two.cli("rollback", "prices")
    assert (done.returncode, json.loads(done.stdout)["live"]["version"]) == (0, old)
    os.kill(two.servers[1].pid, signal.SIGSTOP)
    try:
        done = two.cli("publish", f"prices@{two.versions[1]}")
        assert done.returncode == 16
        assert json.loads(done.stdout)["version"] == two.versions[1], "it is made all the same"
        error = json.loads(done.stderr)["error"]
        assert error["code"] == "not_confirmed"
        assert "1 of 2 servers" in error["message"]
        assert two.answers_from(0) == two.versions[1]
    finally:
        os.kill(two.servers[1].pid, signal.SIGCONT)
    assert seconds_until(lambda: two.answers_from(1) == two.versions[1]) < 5.0


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_without_the_database_reads_go_on_and_writes_fail_clearly(two: Two, how: str) -> None:
    old, new = two.versions
    assert two.change(0, "rollback", old).status_code == 200
    assert two.change(0, "revoke", new).status_code == 200
    assert two.answers_from(1) == old
    assert two.servers[0].metric("quire_registry_up") == 1
    go, come_back = (
        (two.database.pause, two.database.resume) if how == "stopped" else (two.database.kill, two.database.start)
    )
    go()
    try:
        began = time.monotonic()
        seconds: list[float] = []
        while time.monotonic() - began < OUTAGE_SECONDS:
            for server in (0, 1):
                since = time.monotonic()
                assert two.answers_from(server) == old
                seconds.append(time.monotonic() - since)
        assert len(seconds) > 20
        assert sorted(seconds)[-2] < 2.0, "no answer waits for the database; one may for the machine"
        refused = two.change(0, "publish", new)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "registry_unreachable")
        assert int(refused.headers["retry-after"]) >= 1
        assert "cannot be reached; the change was not made" in refused.json()["error"]["message"]
        began = time.monotonic()
        assert two.servers[0].metric("quire_registry_up") == 0
        assert two.servers[0].metric("quire_module_versions", state="revoked") == 1, "as last counted"
        assert two.servers[0].metric("quire_registry_counted_seconds") > 3
        assert time.monotonic() - began < 5.0, "three scrapes, and none waits for the database"
        ready = two.servers[1].get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["checks"]["registry"]["last_known_seconds"] > 3
        done = two.cli("revoke", f"prices@{old}")
        error = json.loads(done.stderr)["error"]
        assert (done.returncode, error["code"]) == (8, "registry_unreachable")
        assert error["message"].endswith("; the change was not made")
        with pytest.raises(RuntimeError, match="cannot be reached"):  # there is nothing that it could go on with
            Server(two.root)
    finally:
        come_back()
    recovered = [seconds_until(lambda n=n: known_since(two, n) is None) for n in (0, 1)]  # type: ignore[misc]
    assert max(recovered) < 10, recovered
    assert two.answers_from(0) == two.answers_from(1) == old
    refused = two.change(1, "publish", new)
    assert refused.status_code == 409, "what was revoked stays revoked"
    with Registry.open(two.url) as registry:
        seconds_until(lambda: not any(server.metric("quire_audit_waiting") for server in two.servers))
        assert decided(registry) >= len(seconds), "what was to be recorded meanwhile is on record"
        assert registry.audit.verify().findings == ()
        assert registry.integrity() == []


def known_since(two: Two, server: int) -> Any:
    return two.servers[server].get("/readyz").json()["checks"]["registry"].get("last_known_seconds")


def decided(registry: Registry) -> int:
    return sum(1 for record in registry.audit.each() if record.kind == "route.decision")


def test_only_who_goes_on_for_long_copies_the_registry(
    database: Postgres, tmp_path: Path, write_project: Callable[..., Path]
) -> None:
    root = write_project(
        tmp_path / "shop", {"prices": PRICE.format("3") * 4}, **{"registry.url": database.new_database()}
    )
    with open_project(root) as project:
        project.build()
        version = project.registry.live("prices").version
    for outlasts in (False, True):
        with open_for_command(root, Screen(), outlasts_registry=outlasts) as project:
            answer = project.ask("What does a bolt cost?", module="prices", max_tokens=1)
            answer.text()
            assert answer.module.version == version
            assert (project.known is project.registry) is not outlasts


def test_with_redis_limits_are_counted_together_and_word_of_a_change_comes_at_once(
    database: Postgres, redis_server: RedisServer, tmp_path: Path, write_project: Callable[..., Path]
) -> None:
    """Also while Redis is gone answers go on: each server then counts by itself."""
    root, url = tmp_path / "shop", database.new_database()
    settings = {"registry.url": url, "redis.url": redis_server.url, "redis.prefix": tmp_path.name}
    write_project(root, {"prices": PRICE.format("3") * 4}, **settings, **{"registry.poll_seconds": 60.0})
    with (root / "quire.toml").open("a", encoding="utf-8") as toml:
        toml.write("[limits.default]\nrequests_per_minute = 10\n")
    with open_project(root) as project:
        project.build()
        version = project.registry.live("prices").version
    with Server(root) as one, Server(root) as other:
        two = Two(root, url, database, (one, other), (version, version))
        assert [two.answers_from(n % 2) for n in range(10)] == [version] * 10
        assert two.answers_from(0) == two.answers_from(1) == "rate_limit_exceeded"
        began = time.monotonic()
        assert two.cli("retire", "prices").returncode == 0, "both have confirmed, though they look once a minute"
        with Registry.open(url) as registry:
            assert {state.generation for state in registry.gateways.all()} == {registry.generation()}
        assert time.monotonic() - began < 20
        redis_server.pause()
        try:
            time.sleep(7)  # until a request's worth has flown in
            began = time.monotonic()
            assert two.answers_from(0) in {"no_live_version", "rate_limit_exceeded"}
            assert time.monotonic() - began < 2.0
        finally:
            redis_server.resume()
