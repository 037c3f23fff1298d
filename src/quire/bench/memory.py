"""What a request costs in memory, and what a second process does.

The document's KV is mapped from its files and read in place, so a request owns the KV of its suffix and answer only:
(suffix + answer) x bytes per token, rounded up to the buffer's grain, and its share of the activations of a step. Two
processes that map one module hold its pages once: each is charged half of them (proportional set size, proc(5)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.bench.figures import Figure, at_least, at_most
from quire.bench.processes import Child

if TYPE_CHECKING:
    from quire.bench.workbench import Workbench

REQUESTS = 16
ANSWER = 32  # tokens


def measure_memory(bench: Workbench) -> list[Figure]:
    """Growth per request in a process of its own; pages shared by two processes."""
    bench.unmap()  # this process must not count as a third user of the pages
    return [*_growth(bench), *_sharing(bench)]


def _growth(bench: Workbench) -> list[Figure]:
    bench.say(f"{REQUESTS} requests at once, in a new process")
    asked = bench.subject.questions
    questions = [asked[i % len(asked)] for i in range(REQUESTS)]
    with Child("quire.bench.request_memory") as process:
        said = process.ask(bench.order(questions=questions, tokens=ANSWER))
    share = 100 / REQUESTS / bench.kv_bytes
    resident, private = (said["peak"][k] - said["before"][k] for k in ("rss", "private"))
    return [
        _megabytes(
            "process before, resident", said["before"]["rss"], note=f"{said['before']['pss'] / 1e6:,.1f} MB PSS"
        ),
        _megabytes("module, mapped", bench.kv_bytes),
        _megabytes(
            f"{REQUESTS} requests at once, resident growth at its peak",
            resident,
            note=f"the suffixes' KV alone: {said['suffix_bytes'] / 1e6:,.1f} MB; {said['samples']} samples",
        ),
        Figure(name="per request, of the module", value=resident * share, unit="%", target=at_most(5)),
        Figure(name="per request, private memory only", value=private * share, unit="%", target=at_most(5)),
    ]


def _sharing(bench: Workbench) -> list[Figure]:
    bench.say("two processes on one module")
    order = {"artifact": str(bench.artifact), "digest": bench.record.digest}
    with Child("quire.bench.shared_mapping") as first:
        alone = first.ask(order)
        with Child("quire.bench.shared_mapping") as second:
            others = second.ask(order)
            both = first.ask(order), others
    mapped = max(both[1]["rss"], 1)
    return [
        _megabytes("one process, mapped module", alone["rss"], note=_charged(alone)),
        _megabytes("first of two", both[0]["rss"], note=_charged(both[0])),
        _megabytes("second of two", both[1]["rss"], note=_charged(both[1])),
        Figure(
            name="second, charged for (PSS / RSS)", value=100 * both[1]["pss"] / mapped, unit="%", target=at_most(55)
        ),
        Figure(name="second, shared pages", value=100 * both[1]["shared"] / mapped, unit="%", target=at_least(95)),
    ]


def _charged(said: dict[str, Any]) -> str:
    return f"PSS {said['pss'] / 1e6:,.1f} MB, shared {said['shared'] / 1e6:,.1f} MB"


def _megabytes(name: str, size: int, *, note: str = "") -> Figure:
    return Figure(name=name, value=size / 1e6, unit="MB", note=note)
