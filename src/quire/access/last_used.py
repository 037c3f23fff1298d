"""When keys were last used, written together now and then and not once for each request."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quire.errors import QuireError
from quire.gathering import NowAndThen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVERY_SECONDS = 30.0
log = logging.getLogger(__name__)


class LastUsed:
    """Gathers uses; a thread of its own writes them. Thread-safe. Close it, or the last ones are lost."""

    def __init__(self, write: Callable[[Mapping[str, datetime]], None], every_seconds: float = EVERY_SECONDS) -> None:
        self._write = write
        self._moments: dict[str, datetime] = {}
        self._lock = threading.Lock()
        self._writer = NowAndThen(self.flush, every_seconds, "quire-last-used")

    def note(self, key_id: str) -> None:
        """This key was used just now. Costs a dictionary entry."""
        with self._lock:
            self._moments[key_id] = datetime.now(UTC)
        self._writer.need()

    def flush(self) -> None:
        """Write what was gathered, in one transaction. What cannot be written now is written next time."""
        with self._lock:
            moments, self._moments = self._moments, {}
        if not moments:
            return
        try:
            self._write(moments)
        except QuireError as error:
            log.warning("the last use of %d keys could not be written: %s", len(moments), error.message)
            with self._lock:
                self._moments = moments | self._moments

    def close(self) -> None:
        """Write what is left and stop the thread. May be called twice."""
        self._writer.close()
