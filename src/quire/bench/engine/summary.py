"""Medians over the repetitions, their ratios with targets, and what no program could do better.

Each figure of an arm is the median over the repetitions, and a ratio is that of two medians. Targets compare with vLLM
alone. The floors (`quire.bench.floors`) hold for a program that reads weights and document once per step, whatever the
number of requests, and multiplies at the machine's full rate; the first token's is that of the median request when
suffixes are computed one after another.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.bench.engine.options import ARMS
from quire.bench.engine.rounds import IN_TURN
from quire.bench.engine.timing import METRICS, agreeing
from quire.bench.figures import Figure, Target, at_least, at_most, milliseconds, ratio
from quire.bench.floors import step_floor, suffix_floor
from quire.model.kv import GRAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.bench.engine.arms import Arm
    from quire.bench.engine.options import ArmName, EngineOptions
    from quire.bench.engine.requests import Requests
    from quire.bench.engine.rounds import Rounds, Run
    from quire.bench.workbench import Workbench

OTHERS: tuple[ArmName, ...] = ("vllm", "transformers")
RATE_TARGETS = {1: at_least(1.2), 16: at_least(2), 32: at_least(3), 64: at_least(4)}
FIRST_TARGETS = {1: at_most(0.5)}
RESTART_TARGET = at_least(25)
MEMORY_TARGET = at_most(1.2)  # the suffixes' KV, and a fifth of it for the activations of a step
IDLE_TARGET = at_most(2)  # % of a core


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


def make_levels(bench: Workbench, requests: Requests, options: EngineOptions, found: Rounds) -> list[Level]:
    """The levels at which any arm answered."""
    levels = []
    for count in options.levels:
        runs = {arm: of for arm in options.arms if (of := found.of(arm, count))}
        if runs:
            levels.append(Level(count, make_floor(bench, requests, count), runs))
    return levels


def make_floor(bench: Workbench, requests: Requests, count: int) -> Floor:
    """The floor of `count` requests at once, each half through its answer on average."""
    suffix, tokens, document = requests.suffix_tokens(count), requests.tokens, len(bench.token_ids)
    step = step_floor(bench.model, count, document, suffix + tokens / 2, bench.machine)
    before = suffix_floor(bench.model, count, document, suffix, bench.machine)
    median = suffix_floor(bench.model, -(-count // 2), document, suffix, bench.machine)
    return Floor(step * 1e3, count / step, count * tokens / (before + (tokens - 1) * step), median * 1e3)


def summarize(
    bench: Workbench, requests: Requests, options: EngineOptions, arms: list[Arm], found: Rounds, levels: list[Level]
) -> dict[str, list[Figure]]:
    """Ratios, restarts, memory and checks, by section; sections without figures are left out."""
    sections: dict[str, list[Figure]] = {}
    if "load" in options.sections:
        rates = _ratios(levels, "tokens_per_second", RATE_TARGETS)
        decoding = _ratios(levels, "decode_tokens_per_second", {})
        firsts = _ratios(levels, "first_token_ms_p50", FIRST_TARGETS)
        sections |= {"tokens/s": rates, "tokens/s, decoding alone": decoding, "first token, document ready": firsts}
    sections["first token after a restart"] = _restarts(found)
    if "memory" in options.sections:
        sections["memory beyond weights and document"] = _memory(bench, requests, arms, levels)
    sections["the same work"] = _checks(arms, found, levels)
    return {name: figures for name, figures in sections.items() if figures}


def _ratios(levels: list[Level], metric: str, targets: dict[int, Target]) -> list[Figure]:
    figures = []
    for level in levels:
        for other in OTHERS:
            if "quire" in level.runs and other in level.runs:
                target = targets.get(level.requests) if other == "vllm" else None
                name = f"quire / {other}, {level.requests} at once"
                above, below = level.median("quire", metric), level.median(other, metric)
                note = f"{_rounded(above.value)} to {_rounded(below.value)} {above.unit}"
                if below.value:
                    figures.append(ratio(name, above, below, target=target, note=note))
    return figures


def _restarts(found: Rounds) -> list[Figure]:
    notes = {
        "quire": f"opened, checked and mapped from the disk; {found.stayed:.1%} of the pages stayed",
        "transformers": "one forward pass over document and question",
        "vllm": "a prefill of document and question",
    }
    figures = {arm: milliseconds(arm, found.restarts[arm], note=notes[arm]) for arm in ARMS if arm in found.restarts}
    listed = list(figures.values())
    for other in OTHERS:
        if "quire" in figures and other in figures:
            target = RESTART_TARGET if other == "vllm" else None
            listed.append(ratio(f"{other} / quire", figures[other], figures["quire"], target=target))
    return listed


def _memory(bench: Workbench, requests: Requests, arms: list[Arm], levels: list[Level]) -> list[Figure]:
    if not levels:
        return []
    level, figures = levels[-1], []
    for arm in arms:
        growth = level.growth(arm)
        if growth is None:
            continue
        alone = ", one after another" if arm.name in IN_TURN else ""
        figures.append(
            Figure(
                name=f"{arm.name}, {level.requests} at once{alone}",
                value=growth / 1e6,
                unit="MB",
                note=f"{arm.idle_bytes / 1e6:,.0f} MB with weights and document",
            )
        )
        if arm.name == "quire":
            figures.append(_of_suffixes(bench, requests, level.requests, growth))
    return figures


def _of_suffixes(bench: Workbench, requests: Requests, level: int, growth: int) -> Figure:
    owned = sum(-(-(len(s) + requests.tokens) // GRAIN) * GRAIN for s in requests.load[level, 0])
    size = owned * bench.model.geometry.bytes_per_token
    return Figure(
        name="quire, of the suffixes' KV",
        value=growth / size,
        unit="x",
        target=MEMORY_TARGET,
        note=f"{size / 1e6:,.1f} MB; the document's is {bench.kv_bytes / 1e6:,.1f} MB",
    )


def _checks(arms: list[Arm], found: Rounds, levels: list[Level]) -> list[Figure]:
    figures = []
    for other in OTHERS:
        same = [
            agreeing(ours, theirs)
            for level in levels
            for a, b in zip(level.runs.get("quire", []), level.runs.get(other, []), strict=False)
            for ours, theirs in zip(a.token_ids, b.token_ids, strict=False)
        ]
        if same:
            figures.append(
                Figure(
                    name=f"first tokens that quire and {other} agree on, median",
                    value=statistics.median(same),
                    unit="tokens",
                    note=f"{sum(n == max(same) for n in same)} of {len(same)} answers agree in {max(same)}",
                )
            )
    cached = [c for run in found.runs for c in run.cached or ()]
    if cached:
        note = f"in blocks of {next(a.opened['block_size'] for a in arms if a.name == 'vllm')}"
        figures.append(
            Figure(name="tokens from vLLM's prefix cache, least", value=min(cached), unit="tokens", note=note)
        )
    idle = {name: 100 * found.idled[name] / seconds for name, seconds in found.waited.items()}
    if idle:
        note = ", ".join(f"{name} {share:.2g}" for name, share in idle.items())
        name = "of a core, used by an arm while it waits, most"
        figures.append(Figure(name=name, value=max(idle.values()), unit="%", target=IDLE_TARGET, note=note))
    return figures


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def missed(sections: dict[str, list[Figure]]) -> Sequence[str]:
    """Names of the figures that did not reach their target, with their section."""
    return [f"{s}: {f.name}" for s, figures in sections.items() for f in figures if f.met is False]
