"""A process that has never seen the module: load the model, then time one question up to its first token.

``python -m quire.bench.cold_start``, started by `quire.bench.first_token`. The model counts as loaded once it has
computed a pass over a few tokens, as a server's has that is ready; everything the module needs comes after that.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from quire.bench.pages import drop_pages, resident_share
from quire.bench.processes import answer_orders
from quire.model import Row, forward
from quire.project import Project
from quire.settings import Settings


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order of `first_token`: seconds of loading, of restoring, and from the question to its token."""
    artifact = Path(order["artifact"])
    began = time.perf_counter()
    with Project(Settings(Path(order["root"]), order["values"])) as project:
        model = project.runtime.model
        forward(model, [Row((), model.new_kv(), model.tokenizer.words(order["question"]))])
        ready = time.perf_counter() - began
        if order["drop"]:
            drop_pages(artifact)
        resident = resident_share(artifact)
        began = time.perf_counter()
        answer = project.ask(order["question"], module=order["module"], max_tokens=1)
        first = next(answer)
        seconds = time.perf_counter() - began
        restored = answer.prepared.restored
        return {
            "ready_seconds": ready,
            "resident_share": resident,
            "tier": restored.tier,
            "restore_seconds": restored.seconds,
            "first_token_seconds": seconds,
            "token_ids": list(first.token_ids),
        }


if __name__ == "__main__":
    answer_orders(measure)
