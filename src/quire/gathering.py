"""Writing together, now and then, what was gathered meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable


class NowAndThen:
    """Calls `write` every so often, from a thread that begins with the first need. Close it, or the last is lost."""

    def __init__(self, write: Callable[[], None], every_seconds: float, name: str) -> None:
        """`write` must be able to be called by two threads, and must not raise. `name`: of the thread."""
        self._write = write
        self._every = every_seconds
        self._name = name
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def need(self) -> None:
        """There is something to write. Costs next to nothing."""
        if self._thread is not None or self._stopping.is_set():
            return
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Write what is left and stop. May be called twice."""
        with self._lock:
            self._stopping.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._write()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._write()
