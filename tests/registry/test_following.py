"""What others change is applied here within a moment, and what is known stays when the server is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.postgres import Postgres
from services.registries import Places, direct, tampering

from quire.access import EVERYTHING, LOCAL, Keys, Policy, Principal, readable_scopes
from quire.artifact import digest_bytes
from quire.core import Scope
from quire.errors import ModuleUnknown, QuireError, RegistryUnreachable, RegistryUnwritable, Unauthenticated
from quire.registry import NOT_MADE, UNKNOWN, Follower, Mark, Reason, Registry, RouteDraft
from quire.registry.database import Database

from .making import BY, record

Follow = Callable[..., Follower]
ANN = readable_scopes(Principal("acme", "ann", frozenset(), frozenset({"reader"})))


@pytest.fixture
def follow(registry: Registry, place: str) -> Iterator[Follow]:
    """Makes followers of the same registry, each as another process would have it."""
    opened: list[tuple[Follower, Registry]] = []

    def make(*, poll_seconds: float = 0.05, stale_seconds: float = 300, start: bool = True) -> Follower:
        own = Registry.open(place)
        follower = Follower(own, place, poll_seconds=poll_seconds, stale_seconds=stale_seconds)
        opened.append((follower, own))
        if start:
            follower.start()
        return follower

    yield make
    for follower, own in opened:
        follower.close()
        own.close()


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def live(follower: Follower, module: str = "billing") -> str | None:
    try:
        return follower.known.live(module).version
    except QuireError:
        return None


def test_publications_rollbacks_and_revocations_reach_a_follower_within_a_second(
    registry: Registry, follow: Follow
) -> None:
    follower = follow(poll_seconds=0.25)
    one, two = (registry.register(record("billing", number), **BY) for number in (1, 2))
    steps: list[tuple[Callable[[], object], str | None]] = [
        (lambda: registry.publish("billing", one.version, **BY), one.version),
        (lambda: registry.publish("billing", two.version, **BY), two.version),
        (lambda: registry.rollback("billing", **BY), one.version),
        (lambda: registry.revoke("billing", one.version, **BY), None),
    ]
    for step, wanted in steps:
        step()
        assert within(5.0, lambda wanted=wanted: live(follower) == wanted)  # type: ignore[misc]
    assert follower.known.generation() == registry.generation()


def test_who_may_not_go_on_without_the_server_answers_as_long_as_it_is_there(
    registry: Registry, follow: Follow
) -> None:
    follower = follow(poll_seconds=0.5, stale_seconds=0)
    made = registry.register(record("billing"), **BY)
    registry.publish("billing", made.version, **BY)
    assert within(5.0, lambda: live(follower) == made.version)
    for _ in range(100):
        assert live(follower) == made.version
        time.sleep(0.01)


def test_a_change_made_here_is_seen_by_the_next_read(follow: Follow) -> None:
    follower = follow(poll_seconds=60)
    made = follower.registry.register(record("billing"), **BY)
    follower.registry.publish("billing", made.version, **BY)
    assert live(follower) == made.version
    follower.registry.revoke("billing", made.version, **BY)
    assert live(follower) is None


def test_word_of_a_change_makes_it_look_at_once(registry: Registry, follow: Follow) -> None:
    follower = follow(poll_seconds=60)
    told: list[int] = []
    follower.listen(told.append)
    made = registry.register(record("billing"), **BY)
    registry.publish("billing", made.version, **BY)
    time.sleep(0.1)
    assert follower.state().generation == 0
    follower.wake()
    assert within(5.0, lambda: follower.state().generation == registry.generation())
    assert told == [registry.generation()]


def test_what_is_known_answers_as_the_registry_does(registry: Registry, follow: Follow) -> None:
    """Chains, routes, keys, reach: every read that an answer needs."""
    keys = Keys(registry.keys, Policy())
    _, key = keys.create(LOCAL, "ann", tenant="acme", user="ann")
    base = registry.register(record("base"), **BY)
    child = registry.register(record("child", parent=base), **BY)
    registry.register(replace(record("secret"), scope=Scope("tenant", "globex")), **BY)
    registry.publish_many([("base", base.version), ("child", child.version)], **BY)
    registry.routes.put(RouteDraft(digest_bytes(b"{}"), "{}", b"\1\2"), **BY)
    follower = follow()
    known = follower.known
    for reach in (EVERYTHING, ANN):
        assert known.within(reach).versions() == registry.within(reach).versions()
        assert known.within(reach).modules() == registry.within(reach).modules()
    assert known.chain(known.live("child")) == registry.chain(registry.live("child"))
    assert known.routes.in_force() == registry.routes.in_force()
    assert known.generation() == registry.generation()
    following = Keys(follower.keys, Policy())
    assert following.authenticate(key).user == "ann"
    with pytest.raises(ModuleUnknown):
        known.within(ANN).live("secret")
    revoked = registry.keys.all(None)[0]
    keys.revoke(LOCAL, revoked.key_id, "left")
    assert within(5.0, lambda: known.generation() == registry.generation())
    with pytest.raises(Unauthenticated):
        following.authenticate(key)
    following.close()
    keys.close()


CHANGES = ("register", "replace", "publish", "retire", "revoke", "rollback", "pin", "forget", "route", "renew")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30))
def test_after_any_changes_the_copy_is_as_one_made_anew(
    places: Places, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Taking over what changed, and no more, must miss nothing."""
    import random

    draw = random.Random(seed)
    place = places.empty(tmp_path_factory.mktemp("any"))
    with Registry.open(place) as registry:
        follower = Follower(registry, place, poll_seconds=60, stale_seconds=60)
        follower.start()
        anew = Follower(registry, place, poll_seconds=60, stale_seconds=60)
        try:
            for _ in range(25):
                change(draw, registry)
            anew.start()
            assert follower.known.versions() == anew.known.versions() == registry.versions()
            assert follower.known.routes.in_force() == anew.known.routes.in_force() == registry.routes.in_force()
            assert follower.known.routes.kept() == registry.routes.kept()
            assert follower.known.generation() == registry.generation()
        finally:
            follower.close()
            anew.close()


def change(draw: object, registry: Registry) -> None:
    """Some change, or none where the registry refuses it."""
    choose = draw.choice  # type: ignore[attr-defined]
    kind, module, number = choose(CHANGES), choose(("base", "child")), choose((1, 2, 3))
    parent = record("base", number) if module == "child" else None
    one = record(module, number, parent=parent)
    try:
        if kind in {"register", "replace", "renew"}:
            numerics = "cuda" if kind == "replace" else "cpu-1"
            expires = datetime.now(UTC) + timedelta(days=1) if kind == "renew" else None
            registry.register(
                replace(record(module, number, parent=parent, numerics=numerics), expires_at=expires), **BY
            )
        elif kind == "rollback":
            registry.rollback(module, **BY)
        elif kind == "route":
            document = f'{{"n":{number}}}'
            registry.routes.put(RouteDraft(digest_bytes(document.encode()), document, bytes([number])), **BY)
        else:
            getattr(registry, kind)(module, one.version, **BY)
    except QuireError:
        return


def test_a_registry_that_went_back_is_taken_over_whole(place: str) -> None:
    """As one that was restored from a backup, with its log."""
    with Registry.open(place) as registry:
        for number in (1, 2, 3):
            made = registry.register(record("billing", number), **BY)
            registry.publish("billing", made.version, **BY)
        follower = Follower(registry, place, poll_seconds=0.05, stale_seconds=300)
        follower.start()
        tampering(place, lambda connection: connection.exec_driver_sql("DELETE FROM audit_log WHERE sequence > 2"))
        with direct(place) as connection:
            connection.exec_driver_sql("DELETE FROM module_versions WHERE sequence > 1")
            connection.exec_driver_sql("UPDATE module_versions SET state = 'live'")
        registry.pin("billing", record("billing", 1).version, **BY)
        assert within(5.0, lambda: len(follower.known.versions()) == 1)
        assert live(follower) == record("billing", 1).version
        follower.close()


@pytest.mark.services
def test_what_was_revoked_stays_revoked_when_a_server_has_lost_the_record_of_it(postgres: Postgres) -> None:
    """A standby took over that lacked the last changes: the database says live, and who knows better refuses."""
    place = postgres.new_database()
    with Registry.open(place) as registry:
        keys = Keys(registry.keys, Policy())
        made, key = keys.create(LOCAL, "ann", tenant="acme")
        one = registry.register(record("billing"), **BY)
        registry.publish("billing", one.version, **BY)
        before = registry.audit.head().records
        follower = Follower(registry, place, poll_seconds=60, stale_seconds=300)
        follower.start()
        registry.revoke("billing", one.version, **BY)
        keys.revoke(LOCAL, made.key_id, "left")
        tampering(place, lambda c: c.exec_driver_sql(f"DELETE FROM audit_log WHERE sequence > {before}"))
        with direct(place) as connection:
            connection.exec_driver_sql("UPDATE module_versions SET state = 'live'")
            connection.exec_driver_sql("UPDATE api_keys SET revoked_at = NULL")
        assert registry.live("billing").version == one.version
        for number in (2, 3):  # also when it goes on from there
            registry.register(record("billing", number), **BY)
            assert len(follower.known.versions()) == number
            assert live(follower) is None
            with pytest.raises(Unauthenticated):
                Keys(follower.keys, Policy()).authenticate(key)
        follower.close()
        keys.close()


@pytest.mark.services
class TestWithoutItsServer:
    """On PostgreSQL alone: SQLite has no server that could be gone."""

    @pytest.fixture(params=["stopped", "killed"])
    def outage(self, request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
        """A registry's URL, how its server goes, and how it comes back."""
        server = Postgres()
        url = server.new_database()
        Registry.open(url).close()
        if request.param == "stopped":
            yield url, server.pause, server.resume
        else:
            yield url, server.kill, server.start
        server.close()

    def test_reads_go_on_writes_fail_and_nothing_revoked_comes_back(
        self, outage: tuple[str, Callable[[], None], Callable[[], None]]
    ) -> None:
        place, go, come_back = outage
        with Registry.open(place) as registry, Registry.open(place) as other:
            follower = Follower(registry, place, poll_seconds=0.1, stale_seconds=300)
            follower.start()
            one, two = (other.register(record("billing", number), **BY) for number in (1, 2))
            other.publish("billing", one.version, **BY)
            other.publish("billing", two.version, **BY)
            other.revoke("billing", one.version, **BY)
            assert within(5.0, lambda: follower.known.generation() == other.generation())
            go()
            try:
                assert within(10.0, lambda: follower.state().error is not None)
                began = time.perf_counter()
                assert follower.known.live("billing").version == two.version
                assert follower.known.get("billing", one.version).state == "revoked"
                assert time.perf_counter() - began < 1
                began = time.perf_counter()
                with pytest.raises(RegistryUnreachable, match=r"cannot be reached.*; the change was not made"):
                    registry.revoke("billing", two.version, **BY)
                assert time.perf_counter() - began < 15
                with pytest.raises(RegistryUnwritable):
                    follower.known.publish("billing", one.version, **BY)
                with pytest.raises(RegistryUnreachable):  # a server that starts now has nothing to go on with
                    Registry.open(place)
            finally:
                come_back()
            assert within(10.0, lambda: follower.state().error is None)
            registry.revoke("billing", two.version, **BY)
            assert live(follower) is None
            assert registry.integrity() == []
            follower.close()

    def test_what_is_known_may_be_used_for_so_long_and_then_no_more(
        self, outage: tuple[str, Callable[[], None], Callable[[], None]]
    ) -> None:
        place, go, come_back = outage
        with Registry.open(place) as registry:
            follower = Follower(registry, place, poll_seconds=0.1, stale_seconds=2)
            made = registry.register(record("billing"), **BY)
            registry.publish("billing", made.version, **BY)
            follower.start()
            go()
            try:
                time.sleep(1.0)
                assert live(follower) == made.version
                time.sleep(3.6)
                with pytest.raises(RegistryUnreachable, match="has not answered for"):
                    follower.known.live("billing")
            finally:
                come_back()
            assert within(10.0, lambda: live(follower) == made.version)
            follower.close()


@pytest.mark.services
def test_who_asks_a_few_questions_copies_nothing_and_follows_all_the_same(postgres: Postgres) -> None:
    place = postgres.new_database()
    with Registry.open(place) as registry, Registry.open(place) as other:
        follower = Follower(registry, place, poll_seconds=0.05, stale_seconds=300)
        told: list[int] = []
        follower.listen(told.append)
        follower.start(copy=False)
        assert follower.known is registry
        made = other.register(record("billing"), **BY)
        other.publish("billing", made.version, **BY)
        assert live(follower) == made.version, "at once: it is the registry itself"
        assert within(5.0, lambda: told[-1:] == [other.generation()])
        follower.check()
        follower.close()


@pytest.mark.services
def test_a_commit_that_was_never_answered_says_that_nobody_knows() -> None:
    server = Postgres()
    database = Database(server.new_database(), busy_seconds=1, answer_seconds=0.5)
    try:
        with pytest.raises(RegistryUnreachable) as refused, database.writing():
            server.pause()  # the next thing that is sent is the commit
        assert (refused.value.outcome, UNKNOWN in str(refused.value)) == (UNKNOWN, True)
        server.resume()
        with database.reading():
            pass
        server.pause()
        with pytest.raises(RegistryUnreachable) as refused, database.writing():
            pytest.fail("it was let in")
        assert refused.value.outcome == NOT_MADE
    finally:
        server.resume()
        database.close()
        server.close()


def test_servers_say_what_they_have_applied(registry: Registry, follow: Follow) -> None:
    first, second = follow(), follow(poll_seconds=60)
    for follower, name in ((first, "a:1"), (second, "b:2")):
        follower.announce(name)
    assert within(10.0, lambda: len(registry.gateways.all()) == 2)
    made = registry.register(record("billing"), **BY)
    registry.publish("billing", made.version, **BY)
    generation = registry.generation()
    assert within(10.0, lambda: len(registry.gateways.unconfirmed(generation, seconds=0)) == 1)
    began = time.monotonic()
    (behind,) = registry.gateways.unconfirmed(generation, seconds=0.5)
    assert time.monotonic() - began >= 0.5
    assert (behind.name, behind.is_silent) == ("b:2", False)
    threading.Timer(0.2, second.wake).start()
    assert registry.gateways.unconfirmed(generation, seconds=30) == []
    second.close()
    assert [state.name for state in registry.gateways.all()] == ["a:1"]


def test_a_server_that_fell_silent_is_reported_until_it_can_answer_nothing_any_more(
    registry: Registry, place: str
) -> None:
    now = datetime.now(UTC)
    registry.gateways.beat("x", "cut off:1", now, 0, 300.0)
    registry.gateways.beat("y", "gone:1", now, 0, 20.0)
    hours = (now - timedelta(seconds=60)).isoformat(timespec="microseconds")
    with direct(place) as connection:
        connection.exec_driver_sql(f"UPDATE gateways SET seen_at = '{hours}'")
    (state,) = registry.gateways.unconfirmed(1, seconds=0)
    with direct(place) as connection:
        connection.exec_driver_sql(
            "UPDATE gateways SET seen_at = '2020-01-01T00:00:00.000000+00:00' WHERE gateway_id = 'y'"
        )
    registry.gateways.beat("z", "new:1", now, 0, 300.0)
    with direct(place) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM gateways").scalar() == 2
    assert (state.name, state.is_silent, 59 < state.silent_seconds < 70) == ("cut off:1", True, True)


def test_marks_and_lost_readers_reach_every_follower(registry: Registry, follow: Follow) -> None:
    added = registry.register(replace(record("billing"), scope=Scope("public")), **BY)
    registry.publish("billing", added.version, **BY)
    follower = follow()
    seen = follower.known.within(ANN)
    assert seen.live("billing").stale is None
    reason = Reason("source", "source changed: a.md", "a.md", "b3:1", "b3:0")
    registry.mark([Mark("billing", added.version, (reason,), "refuse")], actor="tester")
    assert within(1, lambda: follower.known.within(ANN).live("billing").stale is not None)
    found = follower.known.live("billing").stale
    assert found
    assert (found.then, found.reasons) == ("refuse", (reason,))
    registry.narrow({"billing": Scope("tenant", "globex")}, actor="tester")
    assert within(1, lambda: follower.known.within(ANN).all_live() == [])
    with pytest.raises(ModuleUnknown):
        follower.known.within(ANN).resolve(f"billing@{added.version}")
