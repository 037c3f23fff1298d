"""Route tables in the registry: one in force, a way back, and a record of every change."""

from __future__ import annotations

import pytest
from services.registries import direct

from quire.artifact import digest_bytes
from quire.errors import NothingToRollBack, RecordInvalid, VersionUnknown
from quire.registry import Registry, RouteDraft
from quire.registry.routes import KEPT

WHO = {"actor": "ann", "reason": "a test"}


def digest(number: int) -> str:
    return digest_bytes(document(number).encode())


def document(number: int) -> str:
    return f'{{"number":{number}}}'


def put(registry: Registry, number: int) -> bool:
    return registry.routes.put(RouteDraft(digest(number), document(number), bytes([number])), **WHO)


def test_at_first_none_is_in_force(registry: Registry) -> None:
    assert registry.routes.in_force() is None
    assert registry.routes.digest_in_force() is None
    assert registry.routes.kept() == frozenset()
    assert registry.routes.history() == []
    with pytest.raises(NothingToRollBack):
        registry.routes.rollback(**WHO)


def test_the_table_put_last_is_in_force_and_putting_it_again_changes_nothing(registry: Registry) -> None:
    assert put(registry, 1)
    assert put(registry, 2)
    generation = registry.generation()
    assert not put(registry, 2)
    assert registry.generation() == generation
    found = registry.routes.in_force()
    assert found is not None
    assert (found.digest, found.document, found.weights) == (digest(2), '{"number":2}', b"\2")
    assert registry.routes.kept() == {digest(1), digest(2)}
    assert [record.kind for record in registry.routes.history()] == ["route.change", "route.change"]


def test_rollback_goes_further_back_each_time_and_is_recorded(registry: Registry) -> None:
    for number in (1, 2, 3):
        put(registry, number)
    assert [v.digest for v in registry.routes.rollback(**WHO)] == [digest(3), digest(2)]
    assert [v.digest for v in registry.routes.rollback(**WHO)] == [digest(2), digest(1)]
    with pytest.raises(NothingToRollBack, match="no earlier"):
        registry.routes.rollback(**WHO)
    assert registry.routes.digest_in_force() == digest(1)
    assert [v.digest for v in registry.routes.rollback(to=digest(3)[3:], **WHO)] == [digest(1), digest(3)]
    last = registry.routes.history()[0]
    assert (last.kind, last.who, last.why, last.digest) == ("route.rollback", "ann", "a test", digest(3))
    assert last.details == {"from": digest(1)}
    assert registry.audit.verify().findings == ()


def test_a_version_is_any_prefix_that_names_one(registry: Registry) -> None:
    for number in range(17):  # two of seventeen begin with the same digit
        put(registry, number)
    digits = [digest(number).removeprefix("b3:") for number in range(17)]
    for number, text in enumerate(digits):
        assert registry.routes.get(text[:12]).document == document(number)
        assert registry.routes.get(f"b3:{text}").version == text[:12]
    shared = next(d[0] for i, d in enumerate(digits) if d[0] in {e[0] for e in digits[:i]})
    for prefix in (shared, "g", "", "%", "b3:"):
        with pytest.raises(VersionUnknown):
            registry.routes.get(prefix)
    with pytest.raises(NothingToRollBack, match="already"):
        registry.routes.rollback(to=digits[16], **WHO)


def test_old_tables_are_dropped_but_never_the_one_in_force(registry: Registry) -> None:
    for number in range(KEPT + 5):
        put(registry, number)
    assert len(registry.routes.kept()) == KEPT
    assert registry.routes.in_force() is not None
    for _ in range(KEPT - 1):
        registry.routes.rollback(**WHO)
    with pytest.raises(NothingToRollBack):
        registry.routes.rollback(**WHO)
    assert put(registry, 0), "a table that was dropped may come again"
    assert registry.routes.in_force() is not None


def test_a_change_without_a_reason_changes_nothing(registry: Registry) -> None:
    with pytest.raises(RecordInvalid):
        registry.routes.put(RouteDraft(digest(1), "{}", b""), actor="ann", reason=" ")
    assert registry.routes.kept() == frozenset()


def test_another_process_sees_what_is_in_force(registry: Registry, place: str) -> None:
    put(registry, 1)
    with Registry.open(place) as other:
        assert other.routes.digest_in_force() == digest(1)
        put(other, 9)
    assert registry.routes.digest_in_force() == digest(9)


def test_damage_to_a_table_is_found(place: str) -> None:
    with Registry.open(place) as registry:
        put(registry, 1)
        put(registry, 2)
        for change, problem in (
            ("UPDATE route_tables SET document = document || ' '", "its document has another digest"),
            ("DELETE FROM route_tables", "it is in force, and not there: run `quire route build`"),
        ):
            with direct(place) as connection:
                connection.exec_driver_sql(change)
            assert {(f.check, f.problem) for f in registry.integrity()} == {("routes", problem)}
