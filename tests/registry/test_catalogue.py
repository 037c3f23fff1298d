"""What was registered can be found again: by name, prefix, digest, along the chain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from quire.core import ModuleRef, Scope
from quire.errors import (
    ChainBroken,
    InvalidSetting,
    ModuleUnknown,
    NoLiveVersion,
    RecordInvalid,
    RegistryUnreadable,
    VersionUnknown,
)
from quire.registry import ModuleSummary, Registry

from .making import BY, CREATED, record


def test_a_record_comes_back_as_it_was_registered(registry: Registry) -> None:
    base = registry.register(record("base"), **BY)
    full = replace(
        record("billing", parent=base),
        scope=Scope("user", "acme/ann"),
        expires_at=CREATED + timedelta(days=30),
        pinned=True,
        inputs={"nested": {"list": [1, 2.5, None, "ü"]}},
    )
    assert registry.register(full, **BY) == full
    assert registry.get("billing", full.version) == full
    assert registry.by_digest(full.digest) == full
    assert full.ref == ModuleRef("billing", full.version, full.digest)


def test_times_are_kept_in_utc(registry: Registry) -> None:
    in_tokyo = CREATED.astimezone(timezone(timedelta(hours=9)))
    kept = registry.register(replace(record("base"), created_at=in_tokyo), **BY)
    assert kept.created_at == in_tokyo
    assert kept.created_at.tzinfo is UTC
    assert registry.history()[0].at.tzinfo is UTC


def test_names_resolve_to_the_live_version_and_prefixes_to_any(registry: Registry) -> None:
    first, second = (registry.register(record("billing", number), **BY) for number in (1, 2))
    registry.publish("billing", first.version, **BY)
    assert registry.resolve("billing").version == first.version
    assert registry.resolve(f"billing@{second.version[:6]}") == second
    assert registry.resolve(f"billing@{second.version}") == second


def test_an_ambiguous_prefix_names_what_it_could_be(registry: Registry) -> None:
    versions = [registry.register(record("billing", number), **BY).version for number in range(40)]
    shared = next(v[0] for v in versions if sum(other[0] == v[0] for other in versions) > 1)
    with pytest.raises(VersionUnknown, match="ambiguous") as raised:
        registry.get("billing", shared)
    assert sum(version in raised.value.message for version in versions) > 1
    assert raised.value.hint == "give more digits"


@pytest.mark.parametrize("name", ["billing@", "billing@zzz", "billing@%", "billing@_"])
def test_a_version_that_is_not_there_is_unknown(registry: Registry, name: str) -> None:
    version = registry.register(record("billing"), **BY).version
    with pytest.raises(VersionUnknown, match=version):
        registry.resolve(name)


def test_an_unknown_module_suggests_the_near_ones(registry: Registry) -> None:
    with pytest.raises(ModuleUnknown, match="'billing'") as raised:
        registry.live("billing")
    assert "quire build" in raised.value.hint
    registry.register(record("billing"), **BY)
    with pytest.raises(ModuleUnknown) as raised:
        registry.live("biling")
    assert raised.value.hint == "did you mean billing?"
    with pytest.raises(ModuleUnknown) as raised:
        registry.versions("xyz")
    assert raised.value.hint == "registered: billing"


def test_a_module_without_a_live_version_says_which_it_has(registry: Registry) -> None:
    version = registry.register(record("billing"), **BY).version
    with pytest.raises(NoLiveVersion, match=f"{version} candidate"):
        registry.resolve("billing")


def test_listing_modules_and_versions(registry: Registry) -> None:
    billing = [registry.register(record("billing", number), **BY) for number in (1, 2)]
    base = registry.register(record("base"), **BY)
    registry.publish("billing", billing[0].version, **BY)
    assert registry.modules() == [
        ModuleSummary("base", None, 1),
        ModuleSummary("billing", billing[0].version, 2),
    ]
    assert [r.version for r in registry.versions("billing")] == [r.version for r in reversed(billing)]
    assert [r.module_id for r in registry.versions()] == ["base", "billing", "billing"]
    assert registry.referenced_digests() == {base.digest, *(r.digest for r in billing)}


def test_a_chain_runs_from_the_root_by_the_versions_it_was_compiled_on(registry: Registry) -> None:
    system = registry.register(record("system"), **BY)
    tools = registry.register(record("tools", parent=system), **BY)
    domain = registry.register(record("domain", parent=tools), **BY)
    newer = registry.register(record("system", 2), **BY)
    registry.publish_many([(r.module_id, r.version) for r in (system, tools, domain)], **BY)
    registry.publish("system", newer.version, **BY)
    chain = registry.chain(registry.live("domain"))
    assert [r.ref for r in chain] == [system.ref, tools.ref, domain.ref]
    assert [r.ref for r in registry.children(system)] == [tools.ref]
    assert registry.chain(newer) == (newer,)
    assert registry.children(newer) == ()


def test_registering_twice_changes_nothing(registry: Registry) -> None:
    first = registry.register(record("billing"), **BY)
    registry.publish("billing", first.version, **BY)
    generation = registry.generation()
    again = registry.register(record("billing"), **BY)
    assert again.state == "live"
    assert registry.generation() == generation


def test_other_bytes_of_the_same_key_take_the_place_of_the_old_ones(registry: Registry) -> None:
    old = registry.register(record("billing"), **BY)
    registry.publish("billing", old.version, **BY)
    registry.pin("billing", old.version, **BY)
    new = record("billing", numerics="cuda")
    assert registry.register(new, **BY) == replace(new, state="live", pinned=True)
    assert registry.referenced_digests() == {new.digest}
    assert [(e.action, e.digest) for e in registry.history(limit=1)] == [("replace", new.digest)]
    with pytest.raises(VersionUnknown, match="digest"):
        registry.by_digest(old.digest)


def test_children_of_recompiled_bytes_must_be_compiled_again(place: str) -> None:
    with Registry.open(place) as registry:
        base = registry.register(record("base"), **BY)
        child = registry.register(record("child", parent=base), **BY)
        recompiled = registry.register(record("base", numerics="cuda"), **BY)
        with pytest.raises(ChainBroken, match=base.digest) as raised:
            registry.chain(child)
        assert recompiled.digest in raised.value.message
        assert [finding.check for finding in registry.integrity()] == ["parent"]
        with pytest.raises(ChainBroken):
            registry.publish("child", child.version, **BY)
        again = registry.register(record("child", parent=recompiled), **BY)
        assert registry.chain(again) == (recompiled, again)
        assert registry.integrity() == []


def test_an_expiry_can_be_renewed_without_new_bytes(registry: Registry) -> None:
    registry.register(record("billing"), **BY)
    later = CREATED + timedelta(days=365)
    renewed = registry.register(replace(record("billing"), expires_at=later), **BY)
    assert renewed.expires_at == later
    assert registry.history()[0].action == "renew"


def test_a_parent_must_be_registered_first(registry: Registry) -> None:
    with pytest.raises(ChainBroken, match="not registered"):
        registry.register(record("child", parent=record("base")), **BY)
    registry.register(record("base"), **BY)
    with pytest.raises(ChainBroken, match="with digest"):
        registry.register(record("child", parent=record("base", numerics="cuda")), **BY)
    assert [summary.module_id for summary in registry.modules()] == ["base"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"module_id": ""}, "name"),
        ({"module_id": "a@b"}, "'@'"),
        ({"version": ""}, "version"),
        ({"version": "feedfeedfeed"}, "first digits of key"),
        ({"digest": ""}, "digest"),
        ({"token_count": -1}, "token_count must be 0 or more, found -1"),
        ({"bytes": 2**70}, "64 bits|out of range"),
        ({"created_at": datetime(2025, 1, 1)}, "naive"),
        ({"inputs": {"set": {1}}}, "plain JSON"),
        ({"verification": {"error": float("nan")}}, "plain JSON"),
        ({"title": "\udcff"}, "Unicode"),
        ({"scope": Scope("world")}, "ck_module_versions_scope"),  # type: ignore[arg-type]
    ],
)
def test_a_record_that_contradicts_itself_is_refused(registry: Registry, change: dict[str, Any], says: str) -> None:
    with pytest.raises(RecordInvalid, match=says):
        registry.register(replace(record("billing"), **change), **BY)
    assert registry.generation() == 0


def test_one_version_has_one_key_and_one_parent(registry: Registry) -> None:
    one = registry.register(record("billing"), **BY)
    with pytest.raises(RecordInvalid, match="key"):
        registry.register(replace(one, key=one.key + "0"), **BY)
    base = registry.register(record("base"), **BY)
    with pytest.raises(RecordInvalid, match="parent"):
        registry.register(replace(one, parent=base.ref, digest="b3:other"), **BY)


def test_lookups_survive_any_text(registry: Registry) -> None:
    with pytest.raises(RecordInvalid, match="Unicode"):
        registry.live("\ud800")
    with pytest.raises(ModuleUnknown):
        registry.resolve("'; DROP TABLE module_versions; --@1")


def test_history_says_who_what_and_why_newest_first(registry: Registry) -> None:
    one, two = (registry.register(record("billing", number), actor="ci", reason="build") for number in (1, 2))
    registry.publish("billing", one.version, actor="ann", reason="reviewed")
    registry.publish("billing", two.version, actor="bob", reason="newer prices")
    registry.register(record("other"), **BY)
    entries = registry.history("billing")
    assert [(e.actor, e.action, e.version, e.from_state, e.to_state) for e in entries] == [
        ("bob", "publish", two.version, "candidate", "live"),
        ("bob", "retire", one.version, "live", "retired"),
        ("ann", "publish", one.version, "candidate", "live"),
        ("ci", "register", two.version, None, "candidate"),
        ("ci", "register", one.version, None, "candidate"),
    ]
    assert entries[1].reason == f"{two.version} took its place: newer prices"
    assert [e.module_id for e in registry.history(limit=2)] == ["other", "billing"]
    with pytest.raises(InvalidSetting, match="limit"):
        registry.history(limit=0)


@pytest.mark.parametrize("who", [{"actor": " ", "reason": "x"}, {"actor": "x", "reason": ""}])
def test_a_change_needs_someone_and_a_reason(registry: Registry, who: dict[str, str]) -> None:
    with pytest.raises(RecordInvalid, match="who or why"):
        registry.register(record("billing"), **who)
    assert registry.modules() == []


def test_the_generation_tells_another_registry_of_a_change(place: str) -> None:
    with Registry.open(place) as writer, Registry.open(place) as reader:
        before = reader.generation()
        version = writer.register(record("billing"), **BY).version
        after_register = reader.generation()
        writer.publish("billing", version, **BY)
        assert before < after_register < reader.generation()
        assert reader.live("billing").version == version
        unchanged = reader.generation()
        writer.publish("billing", version, **BY)
        assert reader.generation() == unchanged


def test_a_closed_registry_answers_nothing(place: str) -> None:
    registry = Registry.open(place)
    registry.close()
    registry.close()
    with pytest.raises(RegistryUnreadable, match="closed"):
        registry.modules()
