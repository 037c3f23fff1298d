"""Records that must not wait for the disk: a bounded queue, and a thread that writes what is in it.

What is recorded is on the disk some milliseconds later, in one transaction with everything else that came meanwhile.
A crash loses what is queued then, which is at most `queue` records. While the registry is locked or full, the thread
tries again and the queue fills; a record that finds it full is not kept but counted, and the count by kind goes into
the log, in a record of its own, as soon as there is room again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from quire.errors import QuireError, RegistryUnreachable, RegistryUnwritable
from quire.registry.audit.access_events import of_access
from quire.registry.audit.chain import check
from quire.registry.audit.events import AuditEvent
from quire.registry.outcomes import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.access import AccessEvent
    from quire.registry.audit.log import AuditLog

log = logging.getLogger(__name__)

BATCH = 512  # records in one transaction, so that other writers get their turn
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RecorderState:
    """Records waiting now; written and lost since the start."""

    waiting: int
    written: int
    lost: int


class Recorder:
    """Takes events from any thread, at the price of a lock and an append. Close it to write what waits."""

    def __init__(self, audit: AuditLog, *, queue: int) -> None:
        """`queue`: most records that wait."""
        self._audit = audit
        self._most = queue
        self._waiting: deque[AuditEvent] = deque()
        self._lost: Counter[str] = Counter()  # not told yet
        self._lost_ever = 0
        self._written = 0
        self._busy = False
        self._refused = False  # by the disk, the last time
        self._doubtful: tuple[list[AuditEvent], Counter[str]] | None = None  # tried, and perhaps written
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="quire-audit", daemon=True)
        self._thread.start()

    def record(self, event: AuditEvent) -> None:
        """Queue `event`, stamped now, unless it is folded. Never waits: a full queue counts it as lost.

        Raises:
            RecordInvalid: it could never be written, as `AuditLog.record` would say too.
        """
        check(event)
        if not self._audit.folding.admits(event):
            return
        event = replace(event, at=event.at or datetime.now(UTC), machine=False)  # folded once, not at each attempt
        with self._changed:
            if self._closing or len(self._waiting) >= self._most:
                self._lose(event.kind)
            else:
                self._waiting.append(event)
            self._changed.notify_all()

    def tell_access(self, event: AccessEvent) -> None:
        """Queue what the policy or the keys have to say. Never waits and never raises: pass it to `Policy`."""
        self.record(of_access(event))

    def state(self) -> RecorderState:
        with self._changed:
            return RecorderState(len(self._waiting), self._written, self._lost_ever)

    def flush(self, seconds: float = 10.0) -> bool:
        """Wait until all that was recorded before is written. False: it was not in time, or never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or not self._pending, timeout=seconds)
            return not self._pending

    @property
    def _pending(self) -> bool:
        return bool(self._waiting or self._lost or self._busy)

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, for up to `seconds`, and end. What is left then is logged. May be called twice.

        A registry that may not be written (the disk is full or read-only) is not waited for: nobody mends that at the
        end of a program, and whoever only asked a question there would wait for nothing.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._refused or not self._pending, timeout=seconds)
            if self._pending and not self._closing:
                log.error("%d audit records could not be written before the end", len(self._waiting))
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _lose(self, kind: str) -> None:
        if not self._lost:
            log.error("audit records are being lost: %d wait to be written", len(self._waiting))
        self._lost[kind] += 1
        self._lost_ever += 1

    def _run(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._lost or self._closing)
            # What is in doubt is tried again as it was: with more among it, nobody could tell whether it is written.
            batch, lost = self._doubtful or (list(islice(self._waiting, BATCH)), self._lost.copy())
            self._busy = bool(batch or lost)
        done, doubtful = self._write([*batch, *_losses(lost)])
        with self._changed:
            self._busy = False
            self._doubtful = (batch, lost) if doubtful else None
            if done:
                for _ in batch:
                    self._waiting.popleft()
                self._lost -= lost
                self._written += len(batch)
            self._changed.notify_all()
            if not done:
                self._changed.wait_for(lambda: self._closing, timeout=RETRY_SECONDS)
            return not self._closing

    def _write(self, events: Sequence[AuditEvent]) -> tuple[bool, bool]:
        """Whether `events` are written; if not, whether they may be nevertheless. Then they are to be tried again."""
        if not events:
            return True, False
        doubtful = self._doubtful is not None
        try:
            self._audit.record(events, again=doubtful)
        except QuireError as error:
            log.error("audit records cannot be written now: %s", error.message)
            self._refused = isinstance(error, RegistryUnwritable)
            return False, doubtful or (isinstance(error, RegistryUnreachable) and error.outcome == UNKNOWN)
        self._refused = False
        return True, False


def _losses(lost: Counter[str]) -> list[AuditEvent]:
    if not lost:
        return []
    why = "they came faster than they could be written"
    return [AuditEvent(kind="log.lost", who="quire", what="audit log", why=why, details=dict(lost))]
