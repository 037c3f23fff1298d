"""What is out of reach is not found, not counted, and costs nothing."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from oracle import Thing, may
from services.registries import direct

from quire.access import EVERYTHING, ROLES, Principal, Reach, readable_scopes
from quire.core import Scope
from quire.errors import ModuleUnknown, NoLiveVersion, QuireError, VersionUnknown
from quire.registry import Registry, VersionRecord, View
from quire.registry.schema import versions

from .making import BY, record

ANN = readable_scopes(Principal("acme", "ann", frozenset({"billing"}), frozenset({"reader"})))
HIDDEN = Scope("tenant", "globex")


def add(registry: Registry, name: str, scope: Scope, number: int = 1, *, live: bool = True) -> VersionRecord:
    added = registry.register(replace(record(name, number), scope=scope), **BY)
    return registry.publish(name, added.version, **BY) if live else added


@pytest.fixture
def seen(registry: Registry) -> View:
    """Within Ann's reach: one module of each of her scopes, beside some that she must not see."""
    for name, scope in {
        "handbook": Scope("public"),
        "prices": Scope("tenant", "acme"),
        "invoices": Scope("workspace", "acme/billing"),
        "notes": Scope("user", "acme/ann"),
        "plans": HIDDEN,
        "law": Scope("workspace", "acme/legal"),
        "diary": Scope("user", "acme/bob"),
        "other": Scope("workspace", "globex/billing"),
    }.items():
        add(registry, name, scope)
    return registry.within(ANN)


def test_lists_and_counts_hold_what_is_within_reach(seen: View, registry: Registry) -> None:
    visible = ["handbook", "invoices", "notes", "prices"]
    assert [module.module_id for module in seen.modules()] == visible
    assert sorted(r.module_id for r in seen.versions()) == visible
    assert len(registry.modules()) == 8
    assert registry.within(EVERYTHING).modules() == registry.modules()
    assert registry.within(Reach()).modules() == []
    assert registry.within(Reach()).versions() == []


@pytest.mark.parametrize("name", ["plans", "law", "diary", "other"])
def test_a_hidden_module_answers_as_a_missing_one(seen: View, registry: Registry, name: str) -> None:
    version = registry.live(name).version
    for suffix in ("", f"@{version}", f"@{version[:4]}", "@ffff"):
        said = []
        for asked in (name, "nowhere"):
            with pytest.raises(ModuleUnknown) as unknown:
                seen.resolve(asked + suffix)
            said.append(f"{unknown.value} {unknown.value.hint}".replace(asked, "NAME"))
        assert said[0] == said[1]


def test_errors_about_a_visible_module_name_only_its_visible_versions(registry: Registry) -> None:
    shown = add(registry, "prices", Scope("tenant", "acme"))
    registry.retire("prices", shown.version, **BY)
    secret = add(registry, "prices", HIDDEN, 2, live=False)
    seen = registry.within(ANN)
    with pytest.raises(NoLiveVersion) as nothing_live:
        seen.live("prices")
    with pytest.raises(VersionUnknown) as unknown:
        seen.get("prices", "zz")
    with pytest.raises(VersionUnknown):
        seen.get("prices", secret.version)
    assert secret.version not in str(nothing_live.value) + str(unknown.value)
    assert shown.version in str(nothing_live.value)
    assert [r.version for r in seen.versions("prices")] == [shown.version]


def test_a_module_that_was_narrowed_is_gone_with_all_its_past(registry: Registry) -> None:
    """An old version in a wider scope must not be a way around."""
    wide = [add(registry, "prices", Scope("public"), number) for number in (1, 2)]
    seen = registry.within(ANN)
    assert [r.version for r in seen.versions("prices")] == [wide[1].version, wide[0].version]
    narrow = add(registry, "prices", HIDDEN, 3, live=False)
    assert seen.live("prices").version == wide[1].version, "a candidate changes nothing"

    def is_gone() -> bool:
        names = ["prices", *(f"prices@{version.version}" for version in wide)]
        for name in names:
            with pytest.raises(ModuleUnknown):
                seen.resolve(name)
        return not (seen.modules() or seen.versions() or seen.all_live())

    registry.publish("prices", narrow.version, **BY)
    assert is_gone()
    registry.retire("prices", narrow.version, **BY)
    assert is_gone()
    registry.rollback("prices", to=wide[0].version, **BY)
    assert seen.resolve("prices").version == wide[0].version
    assert [r.version for r in seen.versions()] == [wide[0].version]
    registry.rollback("prices", to=narrow.version, **BY)
    registry.revoke("prices", narrow.version, **BY)
    assert is_gone()


def test_any_principal_sees_exactly_what_the_oracle_says(registry: Registry) -> None:
    draw = random.Random(11)
    tenants, inner = ("acme", "globex", "ac"), ("billing", "ann", "acme", "bob")
    scopes = [Scope("public"), *(Scope("tenant", t) for t in tenants)]
    scopes += [Scope(kind, f"{t}/{name}") for kind in ("workspace", "user") for t in tenants for name in inner]
    for number, scope in enumerate(scopes):
        add(registry, f"module-{number}", scope)
        add(registry, "everywhere", scope, number, live=False)
    for _ in range(300):
        principal = Principal(
            tenant=draw.choice(tenants),
            user=draw.choice(("", *inner)),
            workspaces=frozenset(draw.sample(inner, draw.randrange(3))),
            roles=frozenset(draw.sample(sorted(ROLES), draw.choice((0, 1, 2)))),
        )
        wanted = {n for n, scope in enumerate(scopes) if may(principal, "read", Thing(scope, ""))}
        seen = registry.within(readable_scopes(principal))
        assert {module.module_id for module in seen.modules()} - {"everywhere"} == {f"module-{n}" for n in wanted}
        assert sum(module.versions for module in seen.modules()) == 2 * len(wanted)
        number = draw.randrange(len(scopes))
        if number in wanted:
            assert seen.live(f"module-{number}").scope == scopes[number]
            assert len(seen.versions("everywhere")) == len(wanted)
        else:
            with pytest.raises(ModuleUnknown):
                seen.live(f"module-{number}")


def seconds(calls: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The median time of each, taken in turn so that the machine's moods strike all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(times):
        for name, call in calls.items():
            began = time.perf_counter()
            with suppress(QuireError):
                call()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def test_five_thousand_hidden_versions_take_no_time(place: str, seen: View, registry: Registry) -> None:
    """A look at them would take many times what the whole call takes."""
    names = [column.name for column in versions.columns if column.name != "sequence" and not column.computed]
    copied = ", ".join("'h' || i || version" if name in {"version", "key"} else name for name in names)
    with direct(place) as connection:
        connection.exec_driver_sql(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
            f"INSERT INTO module_versions ({', '.join(names)}) "
            f"SELECT {copied.replace('state', repr('retired'))} FROM module_versions, n WHERE module_id = 'plans'"
        )
    with direct(place) as connection:
        connection.exec_driver_sql("ANALYZE")
    assert len(registry.versions("plans")) == 5001
    calls: dict[str, Callable[[], object]] = {
        "hidden": partial(seen.resolve, "plans"),
        "missing": partial(seen.resolve, "nowhere"),
        "hidden version": partial(seen.resolve, "plans@h1"),
        "missing version": partial(seen.resolve, "nowhere@h1"),
    }
    medians = seconds(calls, 60)
    assert abs(medians["hidden"] - medians["missing"]) < 0.5 * medians["missing"]
    assert abs(medians["hidden version"] - medians["missing version"]) < 0.5 * medians["missing version"]
    assert len(seen.modules()) == 4
    with direct(place) as connection:
        connection.exec_driver_sql("DELETE FROM module_versions WHERE version BETWEEN 'h' AND 'i'")


def test_what_is_within_reach_is_found_by_the_index_on_scopes(place: str, registry: Registry) -> None:
    with direct(place) as connection:
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # which is cheaper as long as there are few
        for column in ("scope", "scope_name"):
            explain, more = "EXPLAIN QUERY PLAN", "AND state = 'live' AND version = 'x'"
            if connection.dialect.name != "sqlite":  # PostgreSQL may prefer another index, for few rows or many
                explain, more = "EXPLAIN", ""
            query = f"SELECT * FROM module_versions WHERE {column} IN ('a', 'b') {more}"
            plan = str(connection.exec_driver_sql(f"{explain} {query}").fetchall())
            assert f"ix_module_versions_{column}" in plan
