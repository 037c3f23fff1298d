"""Records that requests do not wait for: none is lost in silence."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from services.registries import locked

from quire.access import AccessEvent, Principal
from quire.errors import RecordInvalid, RegistryUnreachable
from quire.registry import UNKNOWN, AuditEvent, AuditFilter, AuditLog, AuditRecord, Recorder, Registry
from quire.registry.database import Database

from .test_audit import SPAWN, denial

DENIED = AuditFilter(kinds=("access.denied",))


def test_what_is_recorded_is_in_the_log_in_order(registry: Registry) -> None:
    recorder = Recorder(registry.audit, queue=10_000)
    for number in range(1500):
        recorder.record(denial(number))
    recorder.close()
    assert [r.details["n"] for r in registry.audit.each(DENIED)] == list(range(1500))
    assert recorder.state().written == 1500
    assert recorder.state().lost == 0


def test_recording_does_not_wait_for_a_locked_registry(place: str, caplog: pytest.LogCaptureFixture) -> None:
    """A full queue loses records, says so, and says how many in the log itself."""
    with (
        Registry.open(place, busy_seconds=1.0) as registry,
        locked(place) as release,
        caplog.at_level(logging.ERROR, logger="quire"),
    ):
        recorder = Recorder(registry.audit, queue=100)
        began = time.perf_counter()
        for number in range(150):
            recorder.record(denial(number))
        recorder.record(denial(kind="access.unauthenticated"))
        assert time.perf_counter() - began < 0.8, "far below what the lock holds up"
        assert recorder.state().waiting == 100
        assert recorder.state().lost == 51
        assert not recorder.flush(0.1)
        release()
        assert recorder.flush(30)
        recorder.close()
        assert [r.details["n"] for r in registry.audit.each(DENIED)] == list(range(100))
        lost = Counter[str]()
        for told in registry.audit.each(AuditFilter(kinds=("log.lost",))):
            lost.update(told.details)
        assert lost == {"access.denied": 50, "access.unauthenticated": 1}
        assert registry.audit.verify().findings == ()
    assert any("being lost" in said.message for said in caplog.records)


def test_closing_while_nothing_can_be_written_says_what_is_lost(place: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        Registry.open(place, busy_seconds=0.1) as registry,
        locked(place) as release,
        caplog.at_level(logging.ERROR, logger="quire"),
    ):
        recorder = Recorder(registry.audit, queue=100)
        for number in range(7):
            recorder.record(denial(number))
        recorder.close(seconds=0.3)
        release()
    assert any("7 audit records could not be written" in said.message for said in caplog.records)


class Unanswered(AuditLog):
    """Writes as ever, and its answer gets lost as often as it is told to."""

    lost = 0

    def record(self, events: Sequence[AuditEvent], *, again: bool = False) -> tuple[AuditRecord, ...]:
        done = super().record(events, again=again)
        if self.lost:
            self.lost -= 1
            error = RegistryUnreachable("the answer to the commit never came")
            error.tell(UNKNOWN)
            raise error
        return done


def test_what_was_written_and_not_answered_is_not_written_twice(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quire.registry.audit.recorder.RETRY_SECONDS", 0.05)
    database = Database(place, busy_seconds=5)
    audit = Unanswered(database, None)
    recorder = Recorder(audit, queue=10_000)
    for _round in range(2):
        audit.lost = 2
        for number in range(700):  # more than one batch
            recorder.record(denial(number))
        assert recorder.flush(30)
    recorder.close()
    numbers = [r.details["n"] for r in audit.each(DENIED)]
    assert numbers == [*range(700), *range(700)]
    database.close()


def test_after_the_end_records_are_counted_as_lost(registry: Registry) -> None:
    recorder = Recorder(registry.audit, queue=100)
    recorder.close()
    recorder.close()
    recorder.record(denial())
    assert recorder.state().lost == 1
    began = time.perf_counter()
    recorder.close()
    assert time.perf_counter() - began < 5, "nobody waits for what will never be written"


def test_what_could_never_be_written_is_refused_at_once(registry: Registry) -> None:
    recorder = Recorder(registry.audit, queue=100)
    with pytest.raises(RecordInvalid):
        recorder.record(denial(who=""))
    recorder.record(denial())
    recorder.close()
    assert recorder.state().written == 1


def test_what_access_tells_is_recorded_whatever_is_in_it(registry: Registry) -> None:
    """The subject is what a caller wrote, and must not keep the denial out of the log."""
    ann = Principal("acme", "ann", roles=frozenset({"reader"}))
    recorder = Recorder(registry.audit, queue=100)
    recorder.tell_access(AccessEvent("denied", ann, "read payroll", "hidden from it, or not there"))
    recorder.tell_access(AccessEvent("unauthenticated", None, "\ud800\0" * 4000, "no such key"))
    recorder.tell_access(AccessEvent("key_created", ann, "  ", "for the nightly build"))
    recorder.close()
    said = [(r.kind, r.who, r.tenant, r.what[:12]) for r in registry.audit.each()]
    assert said == [
        ("access.denied", "acme/ann", "acme", "read payroll"),
        ("access.unauthenticated", "nobody", "", "\\ud800\\x00\\u"),
        ("key.create", "acme/ann", "acme", "nothing"),
    ]


def record_until_killed(place: str, told: str) -> None:
    with Registry.open(place) as registry, Path(told).open("w", buffering=1) as said:
        recorder = Recorder(registry.audit, queue=10_000)
        for number in range(1_000_000):
            recorder.record(denial(number))
            if number % 50 == 49:
                assert recorder.flush()
                said.write(f"{number}\n")


def test_a_crash_loses_only_what_was_queued(place: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    process = SPAWN.Process(target=record_until_killed, args=(place, str(told)))
    process.start()
    while not told.exists() or not told.read_text().count("\n"):
        time.sleep(0.01)
    time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    flushed = int(told.read_text().splitlines()[-1])
    with Registry.open(place) as registry:
        numbers = [r.details["n"] for r in registry.audit.each(DENIED)]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > flushed
        assert registry.audit.verify().findings == ()
        registry.audit.record([denial()])
        assert registry.audit.verify().findings == ()


def test_recording_is_cheap(registry: Registry) -> None:
    """Microseconds, so that a denial takes no longer than what is unknown."""
    recorder = Recorder(registry.audit, queue=10_000)
    event = denial()
    times = []
    for _ in range(2000):
        began = time.perf_counter()
        recorder.record(event)
        times.append(time.perf_counter() - began)
    recorder.close()
    assert sorted(times)[len(times) // 2] < 0.001
