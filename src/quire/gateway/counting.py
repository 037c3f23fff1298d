"""The registry's counts for /metrics: newest if they come at once, else those of before, with their age."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from quire.errors import QuireError
from quire.registry.counting import Counts
from quire.telemetry import fields

log = logging.getLogger(__name__)

AT_ONCE_SECONDS = 0.5  # counting takes milliseconds, or tenths of a second with ten thousand modules
AGAIN_SECONDS = 0.05  # where it failed the last time
GONE_SECONDS = 2.0  # a count that takes longer will not come


@dataclass(frozen=True, slots=True)
class Counted:
    """`age`: seconds since they were counted; None, like `counts`, before the first time.

    `is_up`: counting did not fail the last time, and does not hang now.
    """

    counts: Counts | None
    age: float | None
    is_up: bool


class LastCounts:
    """Counts in a thread of its own, one count at a time, so that no scrape waits for a database. Thread-safe."""

    def __init__(self, count: Callable[[], Counts]) -> None:
        """`count`: may take as long as it likes, and raise QuireError."""
        self._count = count
        self._lock = threading.Lock()
        self._counting: threading.Thread | None = None
        self._began = 0.0  # the count that runs or ended last, monotonic seconds
        self._failed = False
        self._last: tuple[Counts, float] | None = None  # and when it began

    def newest(self, seconds: float = AT_ONCE_SECONDS) -> Counted:
        """What is known within `seconds`, from the beginning of a count that runs already."""
        with self._lock:
            if self._counting is None or not self._counting.is_alive():
                self._began = time.monotonic()
                self._counting = threading.Thread(target=self._run, name="quire-counts", daemon=True)
                self._counting.start()
            counting, began = self._counting, self._began
        most = AGAIN_SECONDS if self._failed else seconds
        counting.join(max(0.0, began + most - time.monotonic()))
        hangs = counting.is_alive() and time.monotonic() - began > GONE_SECONDS
        is_up = not (self._failed or hangs)
        if (last := self._last) is None:
            return Counted(None, None, is_up and not counting.is_alive())
        return Counted(last[0], time.monotonic() - last[1], is_up)

    def _run(self) -> None:
        began = self._began
        try:
            self._last = self._count(), began
            self._failed = False
        except QuireError as error:  # the other figures are still worth having
            self._failed = True
            log.warning("the registry could not be read for its figures", extra=fields(why=error.message))
