"""A record of who was refused must not be a way to fill the disk for people who have no key."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.access.events import AccessEvent, Recorder

MOST_A_MINUTE = 60


class Strangers:
    """A recorder before a recorder: passes everything on, but of callers that nobody knows only so many a minute.

    The next one that is passed on says how many were not. Thread-safe.
    """

    def __init__(self, record: Recorder, most_a_minute: int = MOST_A_MINUTE) -> None:
        self._record = record
        self._most = most_a_minute
        self._lock = threading.Lock()
        self._minute = -1
        self._passed = 0
        self._kept_back = 0

    def __call__(self, event: AccessEvent) -> None:
        if event.principal is not None:
            self._record(event)
            return
        with self._lock:
            if (minute := int(time.monotonic() // 60)) != self._minute:
                self._minute, self._passed = minute, 0
            if self._passed >= self._most:
                self._kept_back += 1
                return
            self._passed += 1
            more, self._kept_back = self._kept_back, 0
        self._record(replace(event, reason=f"{event.reason} (and {more:,} more before it)") if more else event)
