"""A limit on the records of machines: the log takes a few in a window, and then one record that counts the others.

A server that repeats itself every few seconds would fill the log, where no record can be rewritten or removed. Per
kind, machine and subject the log takes `most` records in a window. `Folding` counts the others. After the window the
log takes one record of the kind ``log.folded`` with their number and the times of the first and the last. Records of
what people do are never folded. The counts are in memory: a crash loses those of the open windows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from quire.registry.audit.events import AuditEvent

MOST = 5
WINDOW = timedelta(minutes=10)


@dataclass(slots=True)
class _Window:
    """`event`: the one that opened the window. `first`, `last`: times of folded events."""

    event: AuditEvent
    begins: datetime
    first: datetime
    last: datetime
    written: int = 0
    folded: int = 0


class Folding:
    """The open windows of one process, by kind, machine and subject. Thread-safe."""

    def __init__(
        self, *, most: int = MOST, window: timedelta = WINDOW, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.now = now
        self.window = window
        self._most = most
        self._windows: dict[tuple[str, str, str], _Window] = {}
        self._over: list[_Window] = []  # closed, with folded events, not yet recorded
        self._lock = threading.Lock()

    def admits(self, event: AuditEvent) -> bool:
        """Whether to write `event`; if not, it is counted. Always true for what a person did. Mutates the counts."""
        if not event.machine:
            return True
        at = event.at or self.now()
        with self._lock:
            self._end_windows()
            window = self._windows.setdefault((event.kind, event.who, event.what), _Window(event, at, at, at))
            if window.written < self._most:
                window.written += 1
                return True
            window.first = window.first if window.folded else at
            window.last = at
            window.folded += 1
            return False

    @contextmanager
    def taken(self, *, everything: bool = False) -> Iterator[list[AuditEvent]]:
        """Take the ``log.folded`` records of windows that are over, or of all. If the block raises, they stay due."""
        with self._lock:
            self._end_windows(everything=everything)
            over, self._over = self._over, []
        try:
            yield [_record(window) for window in over]
        except BaseException:
            with self._lock:
                self._over = [*over, *self._over]
            raise

    def _end_windows(self, *, everything: bool = False) -> None:
        now = self.now()
        for key, window in list(self._windows.items()):
            if everything or now - window.begins >= self.window:
                del self._windows[key]
                if window.folded:
                    self._over.append(window)


def _record(window: _Window) -> AuditEvent:
    event = window.event
    first, last = (at.astimezone(UTC).isoformat(timespec="microseconds") for at in (window.first, window.last))
    return AuditEvent(
        kind="log.folded",
        who=event.who,
        what=event.what,
        why=f"{window.folded:,} more {event.kind} until {last}",
        tenant=event.tenant,
        module=event.module,
        details={"kind": event.kind, "count": window.folded, "first": first, "last": last},
        at=window.last,
    )
