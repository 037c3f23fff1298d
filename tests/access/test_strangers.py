from __future__ import annotations

import threading

import pytest

from quire.access import AccessEvent, Principal
from quire.access.strangers import Strangers

STRANGER = AccessEvent("unauthenticated", None, "token", "forged")
KNOWN = AccessEvent("denied", Principal("acme", "ann"), "read plans", "hidden from it, or not there")


def test_strangers_cannot_fill_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    told: list[AccessEvent] = []
    record = Strangers(told.append, most_a_minute=5)
    for _ in range(1000):
        record(STRANGER)
    assert told == [STRANGER] * 5
    for _ in range(100):
        record(KNOWN)
    assert told[5:] == [KNOWN] * 100
    now += 60
    record(STRANGER)
    record(STRANGER)
    assert [event.reason for event in told[-2:]] == ["forged (and 995 more before it)", "forged"]


def test_none_is_counted_twice_or_forgotten() -> None:
    told: list[AccessEvent] = []
    record = Strangers(told.append, most_a_minute=10)

    def many() -> None:
        for _ in range(500):
            record(STRANGER)

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = sum(int(e.reason.split("and ")[1].split(" ")[0].replace(",", "")) for e in told if "more" in e.reason)
    assert len(told) + said + record._kept_back == 4000
    assert len(told) <= 20  # a minute may have ended meanwhile
