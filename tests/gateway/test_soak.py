"""A server that callers of every kind use for minutes takes no more memory in the end than it did before."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest

from quire import open_project
from quire.model import DEFAULT_MODEL

from .conftest import write_shop
from .process import Server, eventually
from .soaking import Soak, anonymous_bytes

SECONDS_A_CASE = 6
ALL = 30 * 60  # seconds
EVERY = 1.0  # seconds between two looks at its memory
DRIFT = 32 << 20  # bytes between the medians of the two halves of the last third


class Watch:
    """The anonymous memory of a process, looked at in a thread of its own."""

    def __init__(self, pid: int) -> None:
        self.seen: list[tuple[float, int]] = []  # seconds since the beginning, bytes
        self._pid = pid
        self._over = threading.Event()
        self._began = time.monotonic()

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            self.seen.append((time.monotonic() - self._began, anonymous_bytes(self._pid)))

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def drift(self) -> float:
        """Bytes by which the second half of the last third takes more than the first."""
        last = [size for _, size in self.seen[-(len(self.seen) // 3) :]]
        return median(last[len(last) // 2 :]) - median(last[: len(last) // 2])

    def table(self) -> str:
        """Megabytes at about twelve moments."""
        step = max(1, len(self.seen) // 12)
        return ", ".join(f"{seconds:.0f} s: {size / 1e6:.0f} MB" for seconds, size in self.seen[::step])


@pytest.fixture
def busy_shop(tmp_path: Path) -> Path:
    """The shop with the default model, built."""
    write_shop(tmp_path, DEFAULT_MODEL)
    with open_project(tmp_path) as project:
        project.build()
    return tmp_path


@pytest.mark.chaos
@pytest.mark.timeout(ALL + 600)
def test_memory_is_flat_whatever_callers_do(busy_shop: Path, chaos_count: int | None, smol_home: Path) -> None:
    """The least that tells a leak from warming up takes a minute; what grows by a byte an hour needs all thirty."""
    with Server(busy_shop, **{"engine.session_bytes": 32 << 20}) as server:
        soak, watch = Soak(server.url), Watch(server.pid)
        with watch.watching():
            asyncio.run(soak.run(ALL if chaos_count is None else SECONDS_A_CASE * chaos_count))
        assert eventually(server.is_idle, 60)
        log = server.log()
        figures = f"{watch.table()}; drift {watch.drift() / 1e6:.1f} MB; {soak.done.total()} operations: {soak.done}"
    print(figures)
    assert not soak.unexpected, soak.unexpected
    assert [log.count(text) for text in ("socket.send() raised", "exception=", "Traceback")] == [0, 0, 0], log[-5000:]
    assert watch.drift() < DRIFT, figures
