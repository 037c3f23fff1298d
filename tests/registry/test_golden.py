"""A version with golden tests goes live by every way only if they are green on the bytes it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from quire.errors import GoldenFailed, GoldenNotRun
from quire.golden import Expectation, GoldenFile, GoldenQuestion, GoldenRun, Suite, Verdict
from quire.registry import Registry, VersionRecord

from .making import BY, record


def suite(fact: str = "30 days") -> Suite:
    return Suite((GoldenFile("golden/billing.yaml", (GoldenQuestion("How long?", (Expectation("contains", fact),)),)),))


SUITE = suite()


def run(of: VersionRecord, asked: Suite, *, green: bool) -> GoldenRun:
    unmet = () if green else ("contains '30 days'",)
    return GoldenRun(
        module_id=of.module_id,
        version=of.version,
        digest=of.digest,
        suite=asked.checksum,
        at=datetime.now(UTC),
        actor="tester",
        engine={"model": "b3:model"},
        verdicts=(Verdict("golden/billing.yaml", "How long?", "30 days" if green else "60 days", unmet),),
    )


def publish(registry: Registry, of: VersionRecord) -> None:
    registry.publish(of.module_id, of.version, **BY)


def publish_many(registry: Registry, of: VersionRecord) -> None:
    registry.publish_many([(of.module_id, of.version)], **BY)


def roll_back(registry: Registry, of: VersionRecord) -> None:
    registry.rollback(of.module_id, to=of.version, **BY)


Way = Callable[[Registry, VersionRecord], None]


@pytest.mark.parametrize("way", [publish, publish_many])
def test_a_candidate_goes_live_only_when_green(registry: Registry, way: Way) -> None:
    old, new = record("billing", 1), record("billing", 2)
    registry.register(old, **BY)
    publish(registry, old)
    registry.register(new, SUITE, **BY)
    with pytest.raises(GoldenNotRun, match="expected a run of the golden tests"):
        way(registry, new)
    registry.golden.record(run(new, SUITE, green=False), SUITE, reason="build")
    with pytest.raises(GoldenFailed, match=r"'How long\?': expected: contains '30 days'; found '60 days'"):
        way(registry, new)
    assert registry.live("billing").version == old.version
    registry.golden.record(run(new, SUITE, green=True), SUITE, reason="once more")
    way(registry, new)
    assert registry.live("billing").version == new.version


def test_one_red_version_of_several_holds_all_back(registry: Registry) -> None:
    red, fine = record("billing"), record("shipping")
    registry.register(red, SUITE, **BY)
    registry.register(fine, **BY)
    with pytest.raises(GoldenNotRun):
        registry.publish_many([(r.module_id, r.version) for r in (fine, red)], **BY)
    assert {module.live for module in registry.modules()} == {None}


def test_a_run_on_other_bytes_or_of_other_questions_does_not_count(registry: Registry) -> None:
    new = record("billing")
    registry.register(new, SUITE, **BY)
    registry.golden.record(run(replace(new, digest="b3:other"), SUITE, green=True), SUITE, reason="build")
    with pytest.raises(GoldenNotRun):
        publish(registry, new)
    registry.golden.record(run(new, SUITE, green=True), SUITE, reason="build")
    registry.golden.declare(new, suite("21 days"), **BY)
    with pytest.raises(GoldenNotRun):
        publish(registry, new)
    registry.golden.declare(new, SUITE, **BY)
    publish(registry, new)


def test_rollback_goes_by_the_result_of_then(registry: Registry) -> None:
    first, second = record("billing", 1), record("billing", 2)
    for version in (first, second):
        registry.register(version, SUITE, **BY)
        registry.golden.record(run(version, SUITE, green=True), SUITE, reason="build")
        publish(registry, version)
    roll_back(registry, first)
    publish(registry, second)
    registry.golden.record(run(first, SUITE, green=False), SUITE, reason="on another machine")
    with pytest.raises(GoldenFailed):
        roll_back(registry, first)
    registry.golden.record(run(first, suite("21 days"), green=False), suite("21 days"), reason="newer tests")
    registry.golden.record(run(first, SUITE, green=True), SUITE, reason="here")
    roll_back(registry, first)
    assert registry.live("billing").version == first.version


def test_a_live_version_takes_another_suite_only_when_it_passed_it(registry: Registry) -> None:
    live, other = record("billing"), suite("21 days")
    registry.register(live, SUITE, **BY)
    registry.golden.record(run(live, SUITE, green=True), SUITE, reason="build")
    publish(registry, live)
    assert not registry.golden.declare(live, other, **BY)
    registry.golden.record(run(live, other, green=False), other, reason="build")
    assert registry.golden.declared(live) == SUITE
    assert registry.integrity() == []
    registry.golden.record(run(live, other, green=True), other, reason="build")
    assert registry.golden.declared(live) == other


def test_other_bytes_of_a_live_version_are_tested_before_they_serve(registry: Registry) -> None:
    live, again = record("billing"), record("billing", numerics="cpu-2")
    registry.register(live, SUITE, **BY)
    registry.golden.record(run(live, SUITE, green=True), SUITE, reason="build")
    publish(registry, live)
    assert registry.register(again, SUITE, **BY).state == "retired"
    with pytest.raises(GoldenNotRun):
        publish(registry, again)
    registry.golden.record(run(again, SUITE, green=True), SUITE, reason="build")
    publish(registry, again)
    assert registry.live("billing").digest == again.digest


def test_what_became_of_it_stands_in_the_history_and_can_be_read_again(registry: Registry) -> None:
    new = record("billing")
    registry.register(new, SUITE, **BY)
    red, green = run(new, SUITE, green=False), run(new, SUITE, green=True)
    for one in (red, green):
        registry.golden.record(one, SUITE, reason="build")
    assert registry.golden.runs("billing") == [green, red]
    assert registry.golden.newest(new) == green
    assert registry.golden.declared(new) == SUITE
    assert [entry.action for entry in registry.history("billing")] == ["test", "test", "declare", "register"]
    said = next(registry.audit.each())  # oldest first
    assert said.kind == "module.register"
    tested = registry.history("billing")[0]
    assert tested.reason == "1 of 1 golden tests passed: build"


def test_a_red_run_of_a_live_version_is_found(registry: Registry) -> None:
    live = record("billing")
    registry.register(live, SUITE, **BY)
    registry.golden.record(run(live, SUITE, green=True), SUITE, reason="build")
    publish(registry, live)
    registry.golden.record(run(live, SUITE, green=False), SUITE, reason="on another machine")
    assert [finding.check for finding in registry.integrity()] == ["golden"]
    registry.golden.record(run(live, SUITE, green=True), SUITE, reason="mended")


def test_nothing_is_left_of_what_is_forgotten(registry: Registry) -> None:
    new = record("billing")
    registry.register(new, SUITE, **BY)
    registry.golden.record(run(new, SUITE, green=False), SUITE, reason="build")
    registry.forget("billing", new.version, **BY)
    assert registry.golden.runs("billing") == []
    registry.register(new, **BY)
    assert registry.golden.declared(new) is None
    publish(registry, new)
