"""Time to the first token: prefilled in full, restored warm, restored cold.

A full prefill does the operations of `quire.bench.floors`, which grow with the document and its square. A restored
module is read instead: the weights once and the KV once for the tokens of the question, (weight bytes + KV bytes) /
memory rate at least. Cold adds opening, the read of every byte for its checksum and, with the pages dropped, the disk.

    prefill     document and question computed in the way that is fastest on this machine, until the first token is
                chosen (`quire.bench.full_prefill`)
    warm        the whole way of a question through this process: route, lease, tokenize, schedule, compute, choose
    cold        the same in a new process whose model is ready but which has never seen the module: opening, checking
                and mapping are on the clock; the artifact's pages are in memory
    dropped     the same after the kernel was told to forget the artifact's pages; the share that stayed is reported
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from quire.bench.figures import Arm, Figure, alternate, at_least, milliseconds, ratio
from quire.bench.floors import decode_floor, prefill_floor
from quire.bench.full_prefill import Ways
from quire.bench.processes import Child
from quire.bench.workbench import MODULE
from quire.errors import MeasurementFailed

if TYPE_CHECKING:
    from quire.bench.workbench import Workbench


def measure_first_token(bench: Workbench) -> list[Figure]:
    """Milliseconds of each way and how many times lower than the full prefill they are."""
    question = bench.subject.questions[0]
    token_ids = [*bench.token_ids, *bench.suffix_ids(question)]
    bench.say("trying ways to a full prefill")
    full_prefill = Ways(bench.model, chunk=int(bench.plan.inputs["prefill_chunk"])).attempt(token_ids)
    said: dict[str, list[dict[str, Any]]] = {"cold": [], "dropped": []}
    arms: dict[str, Arm] = {
        **{name: partial(run, token_ids) for name, run in full_prefill.contenders.items()},
        "warm": lambda: _warm(bench, question),
        "cold": lambda: _cold(bench, question, said["cold"], drop=False),
        "dropped": lambda: _cold(bench, question, said["dropped"], drop=True),
    }
    full_prefill.measure(token_ids)  # the first pass of a shape also pays for its buffers
    seconds = alternate(arms, bench.options.repeat, bench.say)
    count = len(token_ids)
    floors = prefill_floor(bench.model, count, bench.machine), decode_floor(bench.model, count, bench.machine)
    left = max(answer["resident_share"] for answer in said["dropped"])
    note = f"floor {floors[0] * 1e3:,.0f} ms"
    prefilled = [milliseconds(f"full prefill, {name}", seconds[name], note=note) for name in full_prefill.contenders]
    full = min(prefilled, key=lambda figure: figure.value)
    by = full.name.removeprefix("full prefill, ")
    warm = milliseconds("restored warm", seconds["warm"], note=f"floor {floors[1] * 1e3:,.1f} ms")
    cold = milliseconds("restored cold, new process", seconds["cold"])
    dropped = milliseconds("restored cold, pages dropped", seconds["dropped"], note=f"{left:.1%} of the pages stayed")
    return [
        *prefilled,
        *full_prefill.slower(),
        warm,
        cold,
        _restoring("of it opening and checking", said["cold"]),
        dropped,
        _restoring("of it opening and checking, pages dropped", said["dropped"]),
        milliseconds("start of a new process's model, not counted", [a["ready_seconds"] for a in said["cold"]]),
        ratio("full prefill / warm", full, warm, target=at_least(25), note=by),
        ratio("full prefill / cold", full, cold, target=at_least(20), note=by),
        ratio("full prefill / cold, pages dropped", full, dropped, target=at_least(20), note=by),
    ]


def _restoring(name: str, answers: list[dict[str, Any]]) -> Figure:
    return milliseconds(name, [answer["restore_seconds"] for answer in answers])


def _warm(bench: Workbench, question: str) -> float:
    bench.project.ask(question, module=MODULE, max_tokens=1).text()  # a cold round may have come before
    began = time.perf_counter()
    answer = bench.project.ask(question, module=MODULE, max_tokens=1)
    next(answer)
    seconds = time.perf_counter() - began
    _check_tier(answer.prepared.restored.tier, "warm")
    return seconds


def _cold(bench: Workbench, question: str, said: list[dict[str, Any]], *, drop: bool) -> float:
    bench.unmap()  # pages that are mapped here could not be dropped there
    order = bench.order(artifact=str(bench.artifact), question=question, drop=drop)
    with Child("quire.bench.cold_start") as process:
        answer = process.ask(order)
    _check_tier(answer["tier"], "cold")
    said.append(answer)
    return float(answer["first_token_seconds"])


def _check_tier(found: str, expected: str) -> None:
    if found != expected:
        raise MeasurementFailed(
            f"expected the module to be restored {expected}, found {found}", hint="raise pool.max_bytes"
        )
