"""Two tenants on one engine: what one feels when the other sends ten times its share.

First the capacity of the engine: requests per second while `sequences` of them are always under way. A tenant's share
is half of it. Then phases of equal length take turns. In a calm one both tenants send `load` of their share; in a flood
the other one sends FLOOD times its share, five times what the engine can do. Arrivals are those of a Poisson process,
the same in each phase for the tenant that is measured, and do not wait for answers. Latency is counted from the moment
a request was due, so that nobody is flattered by a sender that came late.

The physics: a step takes longer the more requests are in it, up to `sequences`. In a calm phase a few are, in a flood
all places are taken, so a step's growth from a few to all is the least that the measured tenant must feel. A scheduler
can only see to it that it feels no more: that its requests do not wait behind the other's backlog. They do wait for one
another when a burst of them wants more than the tenant's own places, which the more they are happens the more often:
near the whole share, a flood takes away what they borrow in calm times.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from quire.bench.figures import Figure, at_most
from quire.bench.report import Report, describe
from quire.bench.workbench import Workbench, open_workbench
from quire.core import Delta, Sampling
from quire.engine import Request
from quire.errors import EngineBusy, MeasurementFailed, QuireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quire.bench.figures import Say
    from quire.bench.options import Options
    from quire.scheduler import Ticket

FLOOD = 10.0  # times its share
TOKENS = 32  # of each answer
MEASURED, OTHER = "measured", "other"
STANDSTILL = 1.0  # seconds: what takes longer was done to the process from outside, and says nothing about tenants
TRIES = 4


@dataclass(slots=True)
class Asked:
    """One request: when it was due, when its first and last token came (perf_counter)."""

    due: float
    first: float = 0.0
    ended: float = 0.0
    refused: bool = False
    ticket: Ticket | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self, item: Delta | QuireError) -> None:
        now = time.perf_counter()
        if isinstance(item, QuireError):
            self.refused = isinstance(item, EngineBusy)
        elif item.finish_reason != "cancelled":
            self.first = self.first or now
            self.ended = now if item.finish_reason else 0.0
        if isinstance(item, QuireError) or item.finish_reason:
            self.done.set()


@dataclass(slots=True)
class Phase:
    """What became of the requests of both tenants in one phase."""

    asked: dict[str, list[Asked]]
    seconds: float
    standstill: float  # longest time in which not even a sleeping thread got on

    def latencies(self, tenant: str) -> list[float]:
        return [one.ended - one.due for one in self.asked[tenant] if one.ended]

    def first_tokens(self, tenant: str) -> list[float]:
        return [one.first - one.due for one in self.asked[tenant] if one.ended]

    def rate(self, tenant: str) -> float:
        """Answers per second, until the phase ended."""
        end = min(one.due for asked in self.asked.values() for one in asked) + self.seconds
        return sum(1 for one in self.asked[tenant] if 0 < one.ended <= end) / self.seconds


def measure_fairness(options: Options, seconds: float, load: float, say: Say) -> Report:
    """Compile the document in a directory of its own, measure, leave nothing behind.

    Args:
        seconds: of each phase.
        load: of its share, what a tenant sends that keeps to it.
    """
    with open_workbench(options, say) as bench:
        sender = _Sender(bench)
        say("measuring the capacity")
        capacity = sender.capacity(seconds)
        share = capacity / 2
        phases: dict[str, list[Phase]] = {"calm": [], "flood": []}
        for number in range(options.repeat):
            for name in ("calm", "flood") if number % 2 == 0 else ("flood", "calm"):
                say(f"round {number + 1} of {options.repeat}: {name}")
                rates = {MEASURED: load * share, OTHER: (FLOOD if name == "flood" else load) * share}
                phases[name].append(sender.undisturbed(rates, seconds, seed=number))
        found = {
            "load": _load(capacity, phases),
            "whole answer": _compare(phases, Phase.latencies),
            "first token": _compare(phases, Phase.first_tokens),
        }
        return describe(bench, found, "fairness")


class _Sender:
    """Sends requests of two tenants to the engine of a workbench."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._scheduler = bench.project.runtime.scheduler
        self._numbers = itertools.count()
        self.send(MEASURED, Asked(0.0)).done.wait()  # maps the module

    def capacity(self, seconds: float) -> float:
        """Answers per second while all places are taken; the first second warms up."""
        under_way = [self.send(OTHER, Asked(0.0)) for _ in range(self._bench.options.sequences)]
        began = time.perf_counter() + 1
        ended = 0
        while (now := time.perf_counter()) < began + seconds:
            for i, one in enumerate(under_way):
                if one.done.is_set():
                    ended += now >= began
                    under_way[i] = self.send(OTHER, Asked(0.0))
            time.sleep(0.002)
        for one in under_way:
            one.done.wait()
        return ended / seconds

    def undisturbed(self, rates: dict[str, float], seconds: float, seed: int) -> Phase:
        """A phase in which the process did not stand still; if need be the same once more."""
        for _ in range(TRIES):
            phase = self.phase(rates, seconds, seed)
            if phase.standstill < STANDSTILL:
                return phase
            self._bench.say(f"the process stood still for {phase.standstill:.1f} s: once more")
        raise MeasurementFailed(
            f"the process stood still for {STANDSTILL:g} s and more in each of {TRIES} tries",
            hint="measure on a machine that does nothing else",
        )

    def phase(self, rates: dict[str, float], seconds: float, seed: int) -> Phase:
        """Send what is due, then wait for the measured tenant's answers and cancel the rest."""
        asked: dict[str, list[Asked]] = {MEASURED: [], OTHER: []}
        beat = _Heartbeat()
        began = time.perf_counter()
        due = sorted((at, tenant) for tenant, rate in rates.items() for at in _arrivals(rate, seconds, seed))
        for at, tenant in due:
            time.sleep(max(0.0, began + at - time.perf_counter()))
            asked[tenant].append(self.send(tenant, Asked(began + at)))
        for one in asked[MEASURED]:
            if not one.done.wait(600):
                raise MeasurementFailed("a request had no answer after 10 minutes", hint="look at the log")
        for one in asked[OTHER]:
            if one.ticket is not None:
                self._scheduler.cancel(one.ticket)
        for one in asked[OTHER]:
            one.done.wait()
        return Phase(asked, seconds, beat.stop())

    def send(self, tenant: str, asked: Asked) -> Asked:
        """Submit a question that nobody has asked before. A refusal is told to `asked` too."""
        questions = self._bench.subject.questions
        number = next(self._numbers)
        suffix = self._bench.suffix_ids(f"({number}) {questions[number % len(questions)]}")
        lease = self._bench.lease()
        request = Request(lease, suffix, Sampling(max_tokens=TOKENS, ignore_eos=True), asker=(tenant,))
        try:
            asked.ticket = self._scheduler.submit(request, asked)
        except EngineBusy as error:
            lease.release()
            asked(error)
        return asked


class _Heartbeat:
    """Sleeps in a thread of its own, and remembers the longest sleep."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._stopping.set()
        self._thread.join()
        return self._longest

    def _run(self) -> None:
        before = time.perf_counter()
        while not self._stopping.wait(0.02):
            now = time.perf_counter()
            self._longest, before = max(self._longest, now - before), now


def _arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    draw, at = random.Random(seed), 0.0  # noqa: S311
    while (at := at + draw.expovariate(rate)) < seconds:
        yield at


def _load(capacity: float, phases: dict[str, list[Phase]]) -> list[Figure]:
    figures = [Figure(name="capacity", value=capacity, unit="answers/s", note="all places taken")]
    for name, each in phases.items():
        for tenant in (MEASURED, OTHER):
            rates = tuple(phase.rate(tenant) for phase in each)
            sent = sum(len(phase.asked[tenant]) for phase in each) / sum(phase.seconds for phase in each)
            refused = sum(one.refused for phase in each for one in phase.asked[tenant])
            said = f"{sent:.2f} sent each second" + (f", {refused} refused as busy" if refused else "")
            value = float(np.median(rates))
            figures.append(Figure(name=f"{name}, {tenant}", value=value, unit="answers/s", samples=rates, note=said))
    return figures


def _compare(phases: dict[str, list[Phase]], of: Callable[[Phase, str], list[float]]) -> list[Figure]:
    figures: list[Figure] = []
    for percent in (50, 95):
        both = {}
        for name, each in phases.items():
            pooled = [seconds * 1e3 for phase in each for seconds in of(phase, MEASURED)]
            both[name] = float(np.percentile(pooled, percent))
            note = f"{len(pooled)} requests"
            figures.append(Figure(name=f"{name}, p{percent}", value=both[name], unit="ms", note=note))
        target = at_most(1.5) if percent == 95 else None
        felt = both["flood"] / both["calm"]
        figures.append(Figure(name=f"p{percent}, flood / calm", value=felt, unit="x", target=target))
    return figures
