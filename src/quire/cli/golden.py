"""Results of golden tests as tables and JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from quire.cli.screen import table
from quire.errors import GoldenFailed, IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

    from quire.cli.screen import Screen
    from quire.compiler import BuildReport
    from quire.compiler.outputs import OutputComparison
    from quire.golden import GoldenRun


def runs_table(runs: Sequence[GoldenRun]) -> Table:
    """One row a version that was tested."""
    made = table("module", "version", "questions>", "passed>", "allowed failures>", "may go live")
    for run in runs:
        made.add_row(
            escape(run.module_id),
            run.version,
            str(len(run.verdicts)),
            str(len(run.verdicts) - len(run.failed)),
            str(sum(one.forgiven for one in run.failed) or ""),
            "[green]yes[/green]" if run.green else "[red]no[/red]",
        )
    return made


def failures_table(runs: Sequence[GoldenRun]) -> Table:
    """One row a question that failed."""
    made = table("module", "question", "expected", "found", "")
    for run in runs:
        for one in run.failed:
            made.add_row(
                escape(run.module_id),
                escape(one.question),
                escape("; ".join(one.unmet)),
                escape(one.answer),
                "[dim]allowed[/dim]" if one.forgiven else "",
            )
    return made


def compared_table(found: Sequence[OutputComparison]) -> Table:
    """One row a golden question that is answered otherwise than by the version before."""
    made = table("module", "question", "answer before", "answer now", "passes")
    for one in found:
        for change in one.changed:
            verdicts = ["yes" if passed else "no" for passed in (change.passed_before, change.passed_after)]
            made.add_row(
                escape(one.module_id),
                escape(change.question),
                escape(change.before),
                escape(change.after),
                verdicts[1] if verdicts[0] == verdicts[1] else f"{verdicts[0]} -> {verdicts[1]}",
            )
    return made


def check_red(runs: Sequence[GoldenRun], withheld: Mapping[str, str] | None = None) -> None:
    """Raises GoldenFailed if one of `runs` is red. `withheld`: what did not go live therefore, if it was to."""
    red = [run for run in runs if not run.green]
    if not red:
        return
    named = "; ".join(f"{run.module_id}@{run.version}: {run.complaint}" for run in red)
    kept = f"; withheld: {', '.join(withheld)}" if withheld else ""
    raise GoldenFailed(
        f"{named}{kept}", hint="correct the sources or the golden files, then build again; docs/lifecycle.md"
    )


def check_all_live(report: BuildReport, named: Iterable[str], screen: Screen) -> None:
    """Says what a build left out for another reason than its tests, as what was revoked. `named`: asked for by name.

    Raises:
        GoldenFailed: as `check_red`.
        IllegalTransition: one that was asked for by name is left out.
    """
    check_red(report.red, report.withheld)
    withheld = report.withheld
    if withheld.keys() & set(named):
        raise IllegalTransition("; ".join(withheld.values()), hint="all else is up to date; see docs/lifecycle.md")
    for name, why in withheld.items():
        screen.note(f"{name} is left out: {why}, or take it out of quire.toml")
