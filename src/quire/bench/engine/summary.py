"""Ratios of medians with their targets, and whether the arms did the same work.

Each figure of an arm is the median over the repetitions, and a ratio is that of two medians. Targets compare with vLLM
alone.
"""

from __future__ import annotations

import statistics
from itertools import combinations
from typing import TYPE_CHECKING

from quire.bench.engine.options import ARMS
from quire.bench.engine.rounds import IN_TURN
from quire.bench.engine.timing import agreeing
from quire.bench.figures import Figure, Target, at_least, at_most, milliseconds, ratio
from quire.model.kv import GRAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quire.bench.engine.arms import Arm
    from quire.bench.engine.levels import Level
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
    sections["the same work"] = _checks(requests.tokens, arms, found, levels)
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
    """Of the server, which finds the files in the system's memory, and of the machine, which has to read them."""
    notes = {
        "transformers": "one forward pass over document and question",
        "vllm": "a prefill of document and question",
    }
    theirs = {arm: milliseconds(arm, found.restarts[arm], note=notes[arm]) for arm in OTHERS if arm in found.restarts}
    ours = []
    if found.kept:
        ours.append(milliseconds("quire, of the server", found.kept, note="files checked and mapped"))
    if "quire" in found.restarts:
        note = f"files read, checked and mapped; {found.stayed:.1%} were in memory"
        ours.append(milliseconds("quire, of the machine", found.restarts["quire"], note=note))
    ratios = [
        ratio(f"{other} / {mine.name}", figure, mine, target=RESTART_TARGET if other == "vllm" else None)
        for other, figure in theirs.items()
        for mine in ours
    ]
    return [*ours, *theirs.values(), *ratios]


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


def _checks(tokens: int, arms: list[Arm], found: Rounds, levels: list[Level]) -> list[Figure]:
    figures = []
    for one, other in combinations(ARMS, 2):
        same = [
            agreeing(left, right)
            for level in levels
            for a, b in _together(level, one, other)
            for left, right in zip(a.token_ids, b.token_ids, strict=False)
        ]
        if same:
            figures.append(
                Figure(
                    name=f"first tokens that {one} and {other} agree on, median",
                    value=statistics.median(same),
                    unit="tokens",
                    note=f"{sum(n == tokens for n in same)} of {len(same)} answers agree in {tokens}",
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


def _together(level: Level, one: ArmName, other: ArmName) -> Iterator[tuple[Run, Run]]:
    """Runs of two arms in the same repetition: they were given the same requests."""
    theirs = {run.repetition: run for run in level.runs.get(other, [])}
    for run in level.runs.get(one, []):
        if run.repetition in theirs:
            yield run, theirs[run.repetition]


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def missed(sections: dict[str, list[Figure]]) -> Sequence[str]:
    """Names of the figures that did not reach their target, with their section."""
    return [f"{s}: {f.name}" for s, figures in sections.items() for f in figures if f.met is False]
