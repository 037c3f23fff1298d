"""What is known to be stale, and who may not read any more, is in the registry: for all who open it, and for good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from quire.access import PUBLIC, Principal, Reach, readable_scopes
from quire.core import Scope
from quire.errors import ModuleUnknown, RegistryUnreadable, ScopeTooWide
from quire.registry import AuditFilter, Mark, Reason, Registry, VersionRecord

from .making import BY, record

CHANGED = (Reason("source", "source changed: docs/billing.md", "docs/billing.md", "b3:new", "b3:text"),)
GLOBEX = readable_scopes(Principal("globex", "eve", frozenset(), frozenset({"reader"})))
ACME = readable_scopes(Principal("acme", "ann", frozenset(), frozenset({"reader"})))


def live(registry: Registry, name: str, number: int = 1, scope: Scope = PUBLIC) -> VersionRecord:
    added = registry.register(replace(record(name, number), scope=scope), **BY)
    return registry.publish(name, added.version, **BY)


def stale(one: VersionRecord, *reasons: Reason) -> Mark:
    return Mark(one.module_id, one.version, reasons, "refuse")


def test_a_mark_is_seen_by_all_and_stays(place: str) -> None:
    with Registry.open(place) as registry, Registry.open(place) as other:
        billing = live(registry, "billing")
        (marked,) = registry.mark([stale(billing, *CHANGED)], actor="watcher")
        for seen in (other.live("billing"), other.within(GLOBEX).live("billing"), other.all_live()[0]):
            assert seen == marked
            assert seen.stale
            assert (seen.stale.then, seen.stale.reasons, seen.stale.triggers) == ("refuse", CHANGED, ("source",))
    with Registry.open(place) as registry:
        assert registry.live("billing").stale == marked.stale
        assert registry.integrity() == []


def test_the_moment_stays_while_it_is_stale_and_nothing_is_written_twice(registry: Registry) -> None:
    billing = live(registry, "billing")
    (first,) = registry.mark([stale(billing, *CHANGED)], actor="watcher")
    before = registry.generation()
    assert registry.mark([stale(billing, *CHANGED)], actor="watcher") == []
    assert registry.generation() == before
    more = (*CHANGED, Reason("layout", "layout changed"))
    (second,) = registry.mark([stale(billing, *more)], actor="watcher")
    assert second.stale
    assert first.stale
    assert second.stale.since == first.stale.since
    (cleared,) = registry.mark([stale(billing)], actor="watcher")
    assert cleared.stale is None
    kinds = [r.kind for r in registry.audit.newest(AuditFilter(kinds=("invalidation",)))]
    assert kinds == ["invalidation.cleared", "invalidation.stale", "invalidation.stale"]
    (newest, *_) = registry.audit.newest(AuditFilter(kinds=("invalidation.stale",)))
    assert newest.details == {"triggers": ["source", "layout"], "then": "refuse"}
    assert "docs/billing.md" in newest.why


def test_a_mark_belongs_to_its_version(registry: Registry) -> None:
    old = live(registry, "billing")
    registry.mark([stale(old, *CHANGED)], actor="watcher")
    assert live(registry, "billing", 2).stale is None
    assert registry.get("billing", old.version).stale
    registry.rollback("billing", **BY)
    assert registry.live("billing").stale
    assert registry.mark([Mark("billing", "gone", CHANGED, "serve")], actor="watcher") == []


def test_registering_the_same_version_again_keeps_its_mark(registry: Registry) -> None:
    billing = live(registry, "billing")
    registry.mark([stale(billing, *CHANGED)], actor="watcher")
    registry.register(replace(record("billing", numerics="cpu-2"), scope=PUBLIC), **BY)
    assert registry.live("billing").stale


def test_a_narrower_acl_denies_at_once_whoever_it_leaves_out(place: str) -> None:
    with Registry.open(place) as registry, Registry.open(place) as other:
        live(registry, "billing")
        live(registry, "billing", 2)
        assert other.within(GLOBEX).live("billing")
        assert len(registry.narrow({"billing": Scope("tenant", "acme"), "unknown": PUBLIC}, actor="build")) == 2
        for unseen in ("billing", f"billing@{record('billing').version}"):
            with pytest.raises(ModuleUnknown):
                other.within(GLOBEX).resolve(unseen)
        assert other.within(GLOBEX).all_live() == []
        assert other.within(GLOBEX).modules() == []
        (seen,) = other.within(ACME).all_live()
        assert seen.scopes == (PUBLIC, Scope("tenant", "acme"))
        assert registry.narrow({"billing": Scope("tenant", "acme")}, actor="build") == []
        (event, _) = registry.audit.newest(AuditFilter(kinds=("invalidation.narrowed",)))
        assert event.why.startswith("the acl of billing is tenant:acme now, this version says public")


def test_an_acl_that_moves_elsewhere_denies_all_but_who_is_in_both(registry: Registry) -> None:
    live(registry, "billing", scope=Scope("tenant", "acme"))
    registry.narrow({"billing": Scope("tenant", "globex")}, actor="build")
    for reach in (ACME, GLOBEX):
        with pytest.raises(ModuleUnknown):
            registry.within(reach).live("billing")
    both = Reach(frozenset({Scope("tenant", "acme"), Scope("tenant", "globex")}))
    assert registry.within(both).live("billing")


def test_a_wider_acl_lets_nobody_in_before_a_version_says_so(registry: Registry) -> None:
    live(registry, "billing", scope=Scope("tenant", "acme"))
    assert registry.narrow({"billing": PUBLIC}, actor="build") == []
    with pytest.raises(ModuleUnknown):
        registry.within(GLOBEX).live("billing")


def test_an_acl_that_comes_back_gives_readers_back(registry: Registry) -> None:
    live(registry, "billing")
    registry.narrow({"billing": Scope("tenant", "acme")}, actor="build")
    (freed,) = registry.narrow({"billing": PUBLIC}, actor="build")
    assert freed.narrowed is None
    assert registry.within(GLOBEX).live("billing") == freed


def test_a_rollback_gives_nobody_access_back(registry: Registry) -> None:
    first = live(registry, "billing")
    registry.narrow({"billing": Scope("tenant", "acme")}, actor="build")
    live(registry, "billing", 2, Scope("tenant", "acme"))
    registry.rollback("billing", **BY)
    assert registry.live("billing").version == first.version
    with pytest.raises(ModuleUnknown):
        registry.within(GLOBEX).live("billing")


@pytest.fixture
def parent(registry: Registry) -> VersionRecord:
    return registry.register(replace(record("company"), scope=Scope("tenant", "acme")), **BY)


@pytest.mark.parametrize("scope", [PUBLIC, Scope("tenant", "globex"), Scope("workspace", "globex/billing")], ids=str)
def test_a_child_that_more_may_read_than_its_parent_is_refused(
    registry: Registry, parent: VersionRecord, scope: Scope
) -> None:
    with pytest.raises(ScopeTooWide, match="computed over"):
        registry.register(replace(record("prices", parent=parent), scope=scope), **BY)
    assert [one.module_id for one in registry.modules()] == ["company"]


def test_a_child_within_its_parents_scope_is_taken(registry: Registry, parent: VersionRecord) -> None:
    child = replace(record("prices", parent=parent), scope=Scope("workspace", "acme/billing"))
    assert registry.register(child, **BY).scope == child.scope


@pytest.mark.parametrize("damage", ["nonsense", "[]", '{"since": "x", "then": "serve", "reasons": []}'])
def test_a_damaged_mark_is_named(place: str, damage: str) -> None:
    with Registry.open(place) as registry:
        live(registry, "billing")
        with registry._database.writing() as connection:
            connection.execute(text("UPDATE module_versions SET stale = :damage"), {"damage": damage})
        with pytest.raises(RegistryUnreadable, match="does not decode"):
            registry.live("billing")
        assert [finding.check for finding in registry.integrity()] == ["row"]
