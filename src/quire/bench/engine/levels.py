"""All runs with one number of requests at once, their medians, and what no program could do better.

The floors (`quire.bench.floors`) hold for a program that reads weights and document once per step, whatever the number
of requests, computes what all questions begin with once, before, and multiplies at the machine's full rate; the first
token's is that of the median request when suffixes are computed one after another.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.bench.engine.timing import METRICS
from quire.bench.figures import Figure
from quire.bench.floors import step_floor, suffix_floor

if TYPE_CHECKING:
    from quire.bench.engine.arms import Arm
    from quire.bench.engine.options import ArmName, EngineOptions
    from quire.bench.engine.requests import Requests
    from quire.bench.engine.rounds import Rounds, Run
    from quire.bench.machine import Machine
    from quire.bench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Floor:
    """What no program can beat at one level. Seconds per step, tokens per second, milliseconds."""

    step_ms: float
    decode_tokens_per_second: float
    tokens_per_second: float
    first_token_ms: float


@dataclass(frozen=True, slots=True)
class Level:
    """All runs with `requests` at once, by arm."""

    requests: int
    floor: Floor
    runs: dict[ArmName, list[Run]]

    def median(self, arm: ArmName, metric: str) -> Figure:
        """The median of one of `METRICS`."""
        samples = tuple(run.metrics[metric] for run in self.runs[arm])
        unit = "ms" if "_ms_" in metric else "tokens/s"
        return Figure(name=metric, value=statistics.median(samples), unit=unit, samples=samples)

    def medians(self, arm: ArmName) -> dict[str, float]:
        """Every one of `METRICS`."""
        return {metric: self.median(arm, metric).value for metric in METRICS}

    def growth(self, arm: Arm) -> int | None:
        """Bytes beyond those of the open arm at the peak of the first repetition, if it took part in that."""
        first = [run for run in self.runs.get(arm.name, []) if run.repetition == 0]
        return max(first[0].peak_bytes - arm.idle_bytes, 0) if first else None


def make_levels(
    bench: Workbench, machine: Machine, requests: Requests, options: EngineOptions, found: Rounds
) -> list[Level]:
    """The levels at which any arm answered. `machine`: whose rates give the floors."""
    levels = []
    for count in options.levels:
        runs = {arm: of for arm in options.arms if (of := found.of(arm, count))}
        if runs:
            levels.append(Level(count, make_floor(bench, machine, requests, count), runs))
    return levels


def make_floor(bench: Workbench, machine: Machine, requests: Requests, count: int) -> Floor:
    """The floor of `count` requests at once, each half through its answer on average."""
    suffix, tokens, document = requests.suffix_tokens(count), requests.tokens, len(bench.token_ids)
    step = step_floor(bench.model, count, document, suffix + tokens / 2, machine)
    own, behind = suffix - requests.opening, document + requests.opening
    before = suffix_floor(bench.model, count, behind, own, machine)
    median = suffix_floor(bench.model, -(-count // 2), behind, own, machine)
    return Floor(step * 1e3, count / step, count * tokens / (before + (tokens - 1) * step), median * 1e3)
