"""Tables of both measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from quire.bench.report import print_figures
from quire.router.golden import confusion

if TYPE_CHECKING:
    from rich.console import Console

    from quire.bench.routing.accuracy import AccuracyReport
    from quire.bench.routing.speed import SpeedReport


def print_speed(report: SpeedReport, console: Console) -> None:
    """What was routed and on what, then one table."""
    counts = ", ".join(f"{count:,} {name}" for name, count in report.subject.items())
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    console.print(f"{machine}\n{counts}", highlight=False, markup=False)
    print_figures(report.sections, console)


def print_accuracy(report: AccuracyReport, console: Console) -> None:
    """Scores by arm, then what all stages did: by stage, and what went where."""
    console.print(
        f"{report.modules} modules, {report.examples} examples, {report.outside} examples of what no module covers; "
        f"{len(report.routed)} questions as the test",
        highlight=False,
        markup=False,
    )
    arms = _table("", "covered>", "right>", "wrong>", "abstained>", "not covered>", "left alone>")
    for name, one in report.arms.items():
        numbers = (one.covered, one.right, one.wrong, one.abstained, one.outside, one.outside_right)
        arms.add_row(name, *map(str, numbers))
    console.print(arms)
    stages = _table("decided by", "questions>", "right>")
    for stage, (count, right) in report.by_stage.items():
        stages.add_row(stage, str(count), str(right))
    console.print(stages)
    confused = _table("expected", "questions>", "right>", "went elsewhere")
    for name, found in confusion(report.routed).items():
        elsewhere = ", ".join(f"{other} {count}" for other, count in found.most_common() if other != name)
        confused.add_row(name, str(found.total()), str(found[name]), elsewhere)
    console.print(confused)


def _table(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column.endswith(">")
        made.add_column(Text(column.rstrip(">"), style="bold"), justify="right" if right else "left", overflow="fold")
    return made
