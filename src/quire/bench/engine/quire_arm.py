"""The engine of this package in a process of its own: pool, scheduler and engine as `quire serve` has them.

``python -m quire.bench.engine.quire_arm``, started by `quire.bench.engine.arms`. A request begins with leasing the
document's chain; a token counts when its delta reaches the sink, with its text. What is left out is HTTP, as in the
other arms.
"""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from quire.access import LOCAL
from quire.bench.pages import drop_pages, resident_share
from quire.bench.processes import answer_orders
from quire.core import Delta, Sampling
from quire.engine import Request
from quire.errors import MeasurementFailed, QuireError
from quire.project import Project
from quire.settings import Settings

if TYPE_CHECKING:
    from quire.registry import VersionRecord


@dataclass(slots=True)
class Heard:
    """What reached one request's sink. `times`: by `time.perf_counter`, one per token."""

    done: threading.Semaphore
    times: list[float] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    error: QuireError | None = None

    def __call__(self, item: Delta | QuireError) -> None:
        now = time.perf_counter()
        if isinstance(item, QuireError):
            self.error = item
        else:
            self.times += [now] * len(item.token_ids)
            self.token_ids += item.token_ids
        if isinstance(item, QuireError) or item.finish_reason:
            self.done.release()


class QuireArm:
    """Answers the orders of `quire.bench.engine.arms`."""

    def __init__(self) -> None:
        self._project: Project | None = None
        self._record: VersionRecord | None = None

    def handle(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order, named by its `do`."""
        handlers = {"open": self.open, "serve": self.serve, "restart": self.restart}
        return handlers[order["do"]](order)

    def open(self, order: dict[str, Any]) -> dict[str, Any]:
        """Load the model and answer one request, so that every page of the module is mapped."""
        self._project = Project(Settings(Path(order["root"]), order["values"]))
        self._record = self._project.registry.resolve(order["module"])
        self.serve({"suffixes": [order["suffix"]], "tokens": order["tokens"]})
        gc.collect()
        return {"threads": torch.get_num_threads(), "versions": {"torch": torch.__version__}}

    def serve(self, order: dict[str, Any]) -> dict[str, Any]:
        """Submit all suffixes at once. Times are seconds since before the first was submitted."""
        began = time.perf_counter()
        heard = self._submit(order["suffixes"], order["tokens"])
        for one in heard:
            if one.error:
                raise MeasurementFailed(one.error.message, hint=one.error.hint) from one.error
        return {"times": [[t - began for t in h.times] for h in heard], "token_ids": [h.token_ids for h in heard]}

    def restart(self, order: dict[str, Any]) -> dict[str, Any]:
        """Unmap the module, then open, check and map it again and answer with one token: twice.

        After a restart of the server the system still has the files' pages (`kept_seconds`); after one of the machine
        it has to read them (`seconds`).
        """
        project, record = self._opened()
        kept = self._reopened(order["suffix"])
        self._unmap()
        artifact = project.store.locate(record.digest)
        drop_pages(artifact)
        stayed = resident_share(artifact)
        return {"seconds": self._reopened(order["suffix"]), "kept_seconds": kept, "resident_share": stayed}

    def _unmap(self) -> None:
        project, _ = self._opened()
        gc.collect()  # a finished request may still hold its chain in a cycle
        project.runtime.pool.close()

    def _reopened(self, suffix: list[int]) -> float:
        """Seconds until the first token where nothing is mapped."""
        self._unmap()
        began = time.perf_counter()
        (heard,) = self._submit([suffix], 1)
        if heard.error:
            raise MeasurementFailed(heard.error.message, hint=heard.error.hint) from heard.error
        return heard.times[0] - began

    def _submit(self, suffixes: list[list[int]], tokens: int) -> list[Heard]:
        project, record = self._opened()
        done = threading.Semaphore(0)
        heard = [Heard(done) for _ in suffixes]
        sampling = Sampling(max_tokens=tokens, ignore_eos=True)
        for suffix, sink in zip(suffixes, heard, strict=True):
            lease = project.runtime.pool.lease([record], LOCAL)
            try:
                project.runtime.scheduler.submit(Request(lease, suffix, sampling), sink)
            except QuireError:
                lease.release()
                raise
        for _ in suffixes:
            done.acquire()
        return heard

    def _opened(self) -> tuple[Project, VersionRecord]:
        if self._project is None or self._record is None:
            raise MeasurementFailed("expected the order `open` first")
        return self._project, self._record


if __name__ == "__main__":
    answer_orders(QuireArm().handle)
