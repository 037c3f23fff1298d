"""A process that answers many questions at once and watches its own memory.

``python -m quire.bench.request_memory``, started by `quire.bench.memory`. One question is answered before the first
look, so that the model's buffers exist and every page of the module is mapped; what is added then is the requests' own.
"""

from __future__ import annotations

import gc
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quire.bench.pages import Residency, own_residency
from quire.bench.processes import answer_orders
from quire.model.kv import GRAIN
from quire.project import Project
from quire.settings import Settings

PAUSE = 0.02  # seconds between two looks


class Watch:
    """Looks at this process's memory from a thread; `peak` is the look with the largest resident size."""

    def __init__(self) -> None:
        self.peak = own_residency()
        self.samples = 1
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="quire-bench-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def look(self) -> None:
        """Take one sample. Mutates."""
        now = own_residency()
        self.samples += 1
        self.peak = max(self.peak, now, key=lambda r: r.rss)

    def _look(self) -> None:
        while not self._done.wait(PAUSE):
            self.look()


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order of `memory`: memory before, and at its peak while all questions are being answered."""
    questions, tokens = order["questions"], order["tokens"]
    with Project(Settings(Path(order["root"]), order["values"])) as project:
        ask = {"module": order["module"], "max_tokens": tokens, "ignore_eos": True}
        project.ask(questions[0], **ask).text()
        gc.collect()
        before: Residency = own_residency()
        with Watch() as watch:
            answers = [project.ask(question, **ask) for question in questions]
            for answer in answers:
                answer.text()
        owned = [-(-(len(a.prepared.suffix_ids) + tokens) // GRAIN) * GRAIN for a in answers]
        return {
            "before": asdict(before),
            "peak": asdict(watch.peak),
            "samples": watch.samples,
            "suffix_bytes": sum(owned) * project.model.geometry.bytes_per_token,
        }


if __name__ == "__main__":
    answer_orders(measure)
