"""Every way from state to state, legal or not; publishing builds; rolling back; what may be forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest

from quire.core import State
from quire.errors import (
    IllegalTransition,
    InvalidSetting,
    NoLiveVersion,
    NothingToRollBack,
    VersionInUse,
    VersionUnknown,
)
from quire.registry import Registry, VersionRecord
from quire.registry.lifecycle import TRANSITIONS

from .making import BY, record

STATES: tuple[State, ...] = get_args(State)
WAYS: dict[State, Callable[..., object]] = {
    "live": Registry.publish,
    "retired": Registry.retire,
    "revoked": Registry.revoke,
}


def in_state(registry: Registry, state: State, number: int = 1) -> VersionRecord:
    made = registry.register(record("billing", number), **BY)
    if state in ("live", "retired"):
        registry.publish("billing", made.version, **BY)
    if state in ("retired", "revoked"):
        WAYS[state](registry, "billing", made.version, **BY)
    return registry.get("billing", made.version)


@pytest.mark.parametrize("start", STATES)
@pytest.mark.parametrize("end", WAYS)
def test_only_the_transitions_of_the_table_happen(registry: Registry, start: State, end: State) -> None:
    version = in_state(registry, start).version
    before = registry.generation()
    if end in TRANSITIONS[start]:
        WAYS[end](registry, "billing", version, **BY)
        assert registry.get("billing", version).state == end
        assert registry.generation() > before
        return
    if start == end:
        WAYS[end](registry, "billing", version, **BY)
    else:
        with pytest.raises(IllegalTransition) as raised:
            WAYS[end](registry, "billing", version, **BY)
        for said in (start, end, *TRANSITIONS[start]):
            assert said in raised.value.message
        assert raised.value.hint
    assert registry.get("billing", version).state == start
    assert registry.generation() == before


def test_publishing_retires_what_was_live(registry: Registry) -> None:
    one, two = in_state(registry, "live", 1), in_state(registry, "live", 2)
    assert registry.live("billing").version == two.version
    assert registry.get("billing", one.version).state == "retired"
    registry.publish("billing", one.version[:8], **BY)
    assert registry.live("billing").version == one.version
    assert registry.get("billing", two.version).state == "retired"


def test_a_build_goes_live_as_a_whole_or_not_at_all(registry: Registry) -> None:
    base = registry.register(record("base"), **BY)
    child = registry.register(record("child", parent=base), **BY)
    with pytest.raises(VersionUnknown):
        registry.publish_many([("base", base.version), ("child", "zzz")], **BY)
    with pytest.raises(NoLiveVersion):
        registry.live("base")
    with pytest.raises(IllegalTransition, match="candidate") as raised:
        registry.publish("child", child.version, **BY)
    assert str(base.ref) in raised.value.hint
    # The order does not matter: the build is judged when all of it is live.
    published = registry.publish_many([("child", child.version), ("base", base.version)], **BY)
    assert [(r.module_id, r.state) for r in published] == [("child", "live"), ("base", "live")]
    assert registry.publish_many([], **BY) == ()


def test_two_versions_of_one_module_cannot_be_published_together(registry: Registry) -> None:
    one, two = (registry.register(record("billing", number), **BY) for number in (1, 2))
    with pytest.raises(IllegalTransition, match="found two"):
        registry.publish_many([("billing", one.version), ("billing", two.version)], **BY)
    assert registry.modules()[0].live is None


def test_revoking_a_parent_revokes_all_that_was_compiled_after_it(registry: Registry) -> None:
    base = registry.register(record("base"), **BY)
    child = registry.register(record("child", parent=base), **BY)
    leaf = registry.register(record("leaf", parent=child), **BY)
    bystander = registry.register(record("leaf", 2), **BY)
    registry.publish_many([(r.module_id, r.version) for r in (base, child)], **BY)
    revoked = registry.revoke("base", base.version, actor="ann", reason="wrong prices")
    assert [r.ref for r in revoked] == [base.ref, child.ref, leaf.ref]
    assert registry.get("leaf", bystander.version).state == "candidate"
    assert registry.history("leaf", 1)[0].reason == f"its ancestor {base.ref} was revoked: wrong prices"
    assert registry.revoke("base", base.version, **BY) == ()
    late = registry.register(record("late", parent=base), **BY)
    with pytest.raises(IllegalTransition, match="revoked") as raised:
        registry.publish("late", late.version, **BY)
    assert "another version of base" in raised.value.hint


def test_rollback_undoes_publications_one_by_one(registry: Registry) -> None:
    one, two, three = (in_state(registry, "live", number).version for number in (1, 2, 3))
    before, after = registry.rollback("billing", **BY)
    assert before is not None
    assert (before.version, before.state, after.version, after.state) == (three, "live", two, "live")
    assert registry.rollback("billing", **BY)[1].version == one
    assert registry.live("billing").version == one
    with pytest.raises(NothingToRollBack):
        registry.rollback("billing", **BY)
    assert registry.live("billing").version == one
    assert [e.action for e in registry.history(limit=2)] == ["rollback", "retire"]


def test_rollback_follows_publication_and_not_age(registry: Registry) -> None:
    newest_first = [registry.register(record("billing", number), **BY).version for number in (1, 2)]
    for version in reversed(newest_first):
        registry.publish("billing", version, **BY)
    assert registry.rollback("billing", **BY)[1].version == newest_first[1]


def test_rollback_steps_over_what_cannot_serve(registry: Registry) -> None:
    one, two, three = (in_state(registry, "live", number).version for number in (1, 2, 3))
    registry.revoke("billing", two, **BY)
    registry.revoke("billing", three, **BY)
    before, after = registry.rollback("billing", **BY)
    assert (before, after.version) == (None, one)


def test_a_version_forgotten_and_compiled_anew_is_no_rollback_target(registry: Registry) -> None:
    one, two = (in_state(registry, "live", number).version for number in (1, 2))
    registry.forget("billing", one, **BY)
    registry.register(record("billing", 1), **BY)
    with pytest.raises(NothingToRollBack):
        registry.rollback("billing", **BY)
    assert registry.live("billing").version == two


def test_rollback_to_a_named_version(registry: Registry) -> None:
    one, two, three = (in_state(registry, "live", number).version for number in (1, 2, 3))
    assert registry.rollback("billing", to=one[:8], **BY)[1].version == one
    # Forward again to one that the rollback left behind, and back to where that came from.
    assert registry.rollback("billing", to=three, **BY)[1].version == three
    assert registry.rollback("billing", **BY)[1].version == one
    with pytest.raises(NothingToRollBack, match="already live"):
        registry.rollback("billing", to=one, **BY)
    candidate = in_state(registry, "candidate", 4).version
    with pytest.raises(IllegalTransition, match="candidate"):
        registry.rollback("billing", to=candidate, **BY)
    registry.revoke("billing", two, **BY)
    with pytest.raises(IllegalTransition, match="from revoked to live"):
        registry.rollback("billing", to=two, **BY)


def test_what_is_needed_cannot_be_forgotten(registry: Registry) -> None:
    base = registry.register(record("base"), **BY)
    child = registry.register(record("child", parent=base), **BY)
    with pytest.raises(VersionInUse, match=f"parent of {child.ref}"):
        registry.forget("base", base.version, **BY)
    registry.publish_many([("base", base.version), ("child", child.version)], **BY)
    with pytest.raises(VersionInUse, match="live"):
        registry.forget("child", child.version, **BY)
    registry.retire("child", child.version, **BY)
    registry.pin("child", child.version, **BY)
    with pytest.raises(VersionInUse, match="pinned"):
        registry.forget("child", child.version, **BY)
    assert registry.unpin("child", child.version, **BY).pinned is False
    registry.forget("child", child.version, **BY)
    assert [summary.module_id for summary in registry.modules()] == ["base"]
    assert [e.action for e in registry.history("child")] == [
        "forget",
        "unpin",
        "pin",
        "retire",
        "publish",
        "register",
    ]


def test_gc_keeps_the_newest_the_pinned_and_their_ancestors(registry: Registry) -> None:
    bases = [registry.register(record("base", number), **BY) for number in range(4)]
    child = registry.register(record("child", parent=bases[0]), **BY)
    orphan = registry.register(record("child", 2, parent=bases[1]), **BY)
    registry.publish_many([("base", bases[0].version), ("child", child.version)], **BY)
    registry.publish("base", bases[3].version, **BY)
    registry.pin("base", bases[2].version, **BY)

    def names(keep: int) -> list[str]:
        return [str(r.ref) for r in registry.gc_candidates(keep)]

    # bases[0] stays for the live child, bases[2] for its pin, bases[3] is live.
    assert names(0) == [str(orphan.ref), str(bases[1].ref)]
    assert names(1) == []
    for gone in registry.gc_candidates(0):
        registry.forget(gone.module_id, gone.version, **BY)
    assert names(0) == []
    assert [r.ref for r in registry.chain(registry.live("child"))] == [bases[0].ref, child.ref]
    with pytest.raises(InvalidSetting, match="found -1"):
        registry.gc_candidates(-1)


def test_gc_keep_counts_what_is_not_live(registry: Registry) -> None:
    versions = [in_state(registry, "live", number).version for number in range(4)]
    assert [r.version for r in registry.gc_candidates(1)] == [versions[1], versions[0]]
