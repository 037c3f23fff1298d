"""The report of `quire bench engine`: a table per level and one of ratios for people, one line of JSON for the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from quire.bench.engine.rounds import IN_TURN
from quire.bench.engine.summary import missed
from quire.bench.report import number, print_circumstances, print_figures

if TYPE_CHECKING:
    from rich.console import Console

    from quire.bench.engine.arms import Arm
    from quire.bench.engine.levels import Level
    from quire.bench.engine.options import ArmName
    from quire.bench.figures import Figure
    from quire.bench.machine import Machine

COLUMNS = ("", "tokens/s", "decoding", "first token", "p95", "between", "p95", "memory", "cores", "")


@dataclass(frozen=True, slots=True)
class EngineReport:
    """A finished run. `model`, `document`, `request`: what was measured, as JSON values."""

    machine: Machine
    model: dict[str, Any]
    document: dict[str, Any]
    request: dict[str, Any]
    repeat: int
    arms: list[Arm]
    levels: list[Level]
    restarts: dict[ArmName, list[float]]
    kept: list[float]
    sections: dict[str, list[Figure]]

    def to_json(self) -> str:
        """One line of JSON, every repetition included."""
        document = {
            "benchmark": "engine",
            "quire": version("quire"),
            "machine": asdict(self.machine),
            "model": self.model,
            "document": self.document,
            "request": self.request,
            "repeat": self.repeat,
            "arms": {arm.name: arm.to_json() for arm in self.arms},
            "levels": [self._level(level) for level in self.levels],
            "restart_seconds": self.restarts,
            "kept_restart_seconds": self.kept,
            "sections": {name: [f.to_json() for f in figures] for name, figures in self.sections.items()},
            "missed": list(missed(self.sections)),
        }
        return json.dumps(document, allow_nan=False)

    def _level(self, level: Level) -> dict[str, Any]:
        return {
            "concurrency": level.requests,
            "floor": asdict(level.floor),
            "arms": {
                arm.name: {
                    "median": level.medians(arm.name),
                    "growth_bytes": level.growth(arm),
                    "repetitions": [run.to_json() for run in level.runs[arm.name]],
                }
                for arm in self.arms
                if arm.name in level.runs
            },
        }


def print_engine_report(report: EngineReport, console: Console) -> None:
    """The machine, a table per level, the ratios, and the arms that ended early."""
    print_circumstances(report.machine, report.model, report.document, report.repeat, console)
    asked = f"{report.request['tokens']} greedy tokens per request, questions of {report.request['suffix_tokens']:.0f}"
    asked += f" tokens, the first {report.request['opening_tokens']} of which are those of all"
    console.print(f"{asked}; times in ms, medians over the requests and p95", highlight=False, markup=False)
    for level in report.levels:
        console.print()
        console.print(_table(level, report.arms))
    print_figures(report.sections, console)
    for arm in report.arms:
        if arm.ended:
            console.print()
            console.print(Text(f"{arm.name} ended: {arm.ended}", "red"))
            console.print(Text("\n".join([*(f"  {line}" for line in arm.tail), f"  {arm.log} has more"]), "dim"))


def _table(level: Level, arms: list[Arm]) -> Table:
    title = f"{level.requests} at once" if level.requests > 1 else "1 request"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=Text(title, "bold"), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column else "left")
    for arm in arms:
        if arm.name in level.runs:
            table.add_row(*_row(level, arm))
    floor = level.floor
    bounds = (floor.tokens_per_second, floor.decode_tokens_per_second, floor.first_token_ms, None, floor.step_ms)
    table.add_row(*(Text(t, "dim") for t in ("floor", *(number(b) if b else "" for b in bounds), "", "", "", "")))
    return table


def _row(level: Level, arm: Arm) -> list[str]:
    medians, runs, growth = level.medians(arm.name), level.runs[arm.name], level.growth(arm)
    alone = f"one after another, from {runs[0].measured}" if arm.name in IN_TURN and level.requests > 1 else ""
    return [
        arm.name,
        *(number(value) for value in medians.values()),
        f"+{growth / 1e6:,.0f} MB" if growth is not None else "",
        f"{sorted(run.cores for run in runs)[len(runs) // 2]:.1f}",
        alone,
    ]
