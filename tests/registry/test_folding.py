"""What a machine repeats is folded: few records in a window, and one that says how many there were besides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from services.registries import locked

from quire.errors import RegistryBusy
from quire.registry import AuditEvent, Folding, Recorder, Registry

MOST = 3
WINDOW = timedelta(minutes=10)
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(registry: Registry) -> Clock:
    """The clock by which this registry folds."""
    clock = Clock()
    registry.audit.folding = Folding(most=MOST, window=WINDOW, now=clock)
    return clock


def event(what: str = "billing@1", *, who: str = "server one", machine: bool = True) -> AuditEvent:
    return AuditEvent(kind="module.test", who=who, what=what, why="it was seen", machine=machine, module="billing")


def written(registry: Registry, kind: str = "module.test") -> list[tuple[str, str]]:
    return [(one.who, one.what) for one in registry.audit.each() if one.kind == kind]


def test_a_window_has_a_few_records_and_then_their_number(registry: Registry, clock: Clock) -> None:
    for _ in range(745):
        registry.audit.record([event()])
        clock.now += timedelta(milliseconds=500)
    assert len(written(registry)) == MOST
    assert written(registry, "log.folded") == []
    clock.now = NOON + WINDOW
    assert len(registry.audit.record([event()])) == 2, "the number, and the first record of the next window"
    assert registry.audit.record(()) == (), "once"
    (folded,) = [one for one in registry.audit.each() if one.kind == "log.folded"]
    assert (folded.who, folded.what, folded.module) == ("server one", "billing@1", "billing")
    first, last = (NOON + timedelta(seconds=n / 2) for n in (MOST, 744))
    assert folded.details == {
        "kind": "module.test",
        "count": 745 - MOST,
        "first": first.isoformat(timespec="microseconds"),
        "last": last.isoformat(timespec="microseconds"),
    }
    assert folded.why.startswith("742 more module.test until 2026-12-01T12:06:12")


def test_hours_of_it_are_a_few_records_an_hour(registry: Registry, clock: Clock) -> None:
    for _ in range(6 * 720):
        registry.audit.record([event()])
        clock.now += timedelta(seconds=5)
    assert len(list(registry.audit.each())) <= 6 * 6 * (MOST + 1)


def test_kinds_machines_and_subjects_are_apart_and_people_are_not_folded(registry: Registry, clock: Clock) -> None:
    for _ in range(MOST + 2):
        registry.audit.record([event(), event("prices@1"), event(who="server two"), event(who="ann", machine=False)])
    said = written(registry)
    assert [said.count(one) for one in dict.fromkeys(said)] == [MOST, MOST, MOST, MOST + 2]
    clock.now += WINDOW
    registry.audit.record(())
    assert len(written(registry, "log.folded")) == 3
    assert registry.generation() == len(said), "a number is no change"


def test_what_is_queued_is_folded_too(registry: Registry, clock: Clock) -> None:
    recorder = Recorder(registry.audit, queue=100)
    for _ in range(50):
        recorder.record(event())
    assert recorder.flush(30)
    recorder.close()
    assert len(written(registry)) == MOST


def test_the_number_is_written_when_the_registry_is_closed(place: str) -> None:
    with Registry.open(place) as registry:
        for _ in range(20):
            registry.audit.record([event()])
    with Registry.open(place) as registry:
        (folded,) = [one for one in registry.audit.each() if one.kind == "log.folded"]
        assert folded.details["count"] == 20 - len(written(registry))
        assert registry.audit.verify().findings == ()


def test_a_number_that_could_not_be_written_is_written_later(place: str) -> None:
    clock = Clock()
    with Registry.open(place, busy_seconds=0.1) as registry:
        registry.audit.folding = Folding(most=MOST, window=WINDOW, now=clock)
        for _ in range(MOST + 4):
            registry.audit.record([event()])
        clock.now += WINDOW
        with locked(place), pytest.raises(RegistryBusy):
            registry.audit.record(())
        registry.audit.record(())
        (folded,) = [one for one in registry.audit.each() if one.kind == "log.folded"]
        assert folded.details["count"] == 4
