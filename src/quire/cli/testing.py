"""`quire test`: does every golden question go where it should, and is it answered as it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quire.cli.catalogue import resolve
from quire.cli.golden import check_red, failures_table, runs_table
from quire.cli.opening import Catalogue, open_catalogue, open_project
from quire.cli.options import JsonOption, ProjectOption, complete_module
from quire.cli.progress import counting
from quire.cli.screen import Screen, table
from quire.errors import GoldenRoutesMissed, InvalidSetting
from quire.golden import suite_of
from quire.router import LiveRoutes
from quire.router.golden import GOLDEN_FILE, confusion, read_golden, run_golden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from quire.golden import GoldenRun, Suite
    from quire.registry import VersionRecord
    from quire.router.golden import Routed


def check(
    modules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODULE[@VERSION]]...",
            help="Modules whose answers are tested. Default: the routes, and every module that has golden tests.",
            autocompletion=complete_module,
        ),
    ] = None,
    routes: Annotated[bool, typer.Option("--routes", help="Only where questions go. Asks no model.")] = False,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Only questions to modules with this tag. Repeatable. Keeps no result."),
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option(
            "--golden", help=f"Questions with their modules. Default: {GOLDEN_FILE} of the project.", show_default=False
        ),
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the golden questions: where they go by the table in force, and what the modules answer from restored KV.

    Of a module the live version is asked, or the newest where none is live, or the one that is named. What comes of it
    is kept in the registry; a candidate whose tests are green may go live. Exits with 14 where answers are not what is
    expected and more fail than is allowed, else with 9 where a question goes to another module than it should, or
    another stage decides than was said.
    """
    screen = Screen(as_json=as_json)
    routed: list[Routed] = []
    wanted: list[tuple[VersionRecord, Suite]] = []
    with open_catalogue(project) as catalogue:
        router = LiveRoutes(catalogue.registry.routes).current()
        file = golden or catalogue.settings.root / GOLDEN_FILE
        if routes or golden or (file.is_file() and not modules and not tags):
            routed = run_golden(router, read_golden(file))
        if not routes:
            wanted = _wanted(catalogue, modules or (), frozenset(tags or ()))
    if not routed and not wanted:
        raise InvalidSetting(
            f"there are no golden tests: neither {GOLDEN_FILE} nor golden/MODULE.yaml of a compiled module",
            hint="docs/lifecycle.md and docs/routing.md show how they look",
        )
    runs = _answered(project, wanted, screen, keep=not tags) if wanted else []
    _show(screen, router.table.digest, routed, runs)
    check_red(runs)
    if missed := [one for one in routed if not one.passed]:
        raise GoldenRoutesMissed(
            f"{len(missed)} of {len(routed)} golden questions go elsewhere",
            hint='see `quire route explain "QUESTION"`; `quire route rollback` brings the table before back',
        )


def _show(screen: Screen, table: str, routed: list[Routed], runs: list[GoldenRun]) -> None:
    """What was asked of the routes, by the `table` of that digest, and of the modules."""
    missed = [one for one in routed if not one.passed]
    failed = [run for run in runs if run.failed]
    screen.show(
        {
            "routes": _routes_value(table, routed) if routed else None,
            "modules": [run.as_json() for run in runs],
        },
        *([confusion_table(routed), stage_table(routed)] if routed else []),
        *([_missed(missed)] if missed else []),
        *([f"{len(routed) - len(missed)} of {len(routed)} questions go where they should"] if routed else []),
        *([runs_table(runs)] if runs else []),
        *([failures_table(failed)] if failed else []),
    )


def _wanted(catalogue: Catalogue, modules: Sequence[str], tags: frozenset[str]) -> list[tuple[VersionRecord, Suite]]:
    """Versions, and what they are tested with: what the project's files say, else what the version declares.

    Raises:
        InvalidSetting: one that is named has no tests, or none has one of the `tags`.
    """
    registry, declared = catalogue.registry, {spec.module_id: spec for spec in catalogue.settings.modules}
    wanted: list[tuple[VersionRecord, Suite]] = []
    for name in modules or [module.module_id for module in registry.modules()]:
        record = resolve(registry, name)
        spec = declared.get(record.module_id)
        suite = (suite_of(catalogue.settings.root, spec) if spec else None) or registry.golden.declared(record)
        if suite is None and modules:
            raise InvalidSetting(
                f"{record.ref} has no golden tests",
                hint=f"write golden/{record.module_id}.yaml; docs/lifecycle.md shows how it looks",
            )
        if suite is not None:
            wanted.append((record, suite.only(tags) if tags else suite))
    chosen = [(record, suite) for record, suite in wanted if len(suite)]
    if tags and not chosen:
        raise InvalidSetting(f"no golden question has the tag {', '.join(sorted(tags))}", hint="see the golden files")
    return chosen


def _answered(
    directory: Path | None, wanted: Sequence[tuple[VersionRecord, Suite]], screen: Screen, *, keep: bool
) -> list[GoldenRun]:
    with open_project(directory, screen) as project:
        with screen.waiting("loading the model"):
            _ = project.runtime
        with counting(screen, "golden tests", "questions") as told:
            return project.test(wanted, told, keep=keep)


def _routes_value(digest: str | None, routed: Sequence[Routed]) -> dict[str, Any]:
    missed = [one for one in routed if not one.passed]
    return {
        "table": digest,
        "questions": len(routed),
        "passed": len(routed) - len(missed),
        "by_stage": by_stage(routed),
        "confusion": {name: dict(found) for name, found in confusion(routed).items()},
        "missed": [_value(one) for one in missed],
    }


def by_stage(routed: Sequence[Routed]) -> dict[str, dict[str, int]]:
    """By the stage that decided: how many questions, and how many of them went where they should."""
    found: dict[str, dict[str, int]] = {}
    for one in routed:
        counts = found.setdefault(one.plan.stage, {"questions": 0, "right": 0})
        counts["questions"] += 1
        counts["right"] += one.module == one.golden.module
    return found


def confusion_table(routed: Sequence[Routed]) -> Table:
    """One row an expected module: how many went there, and where the others went."""
    made = table("expected", "questions>", "right>", "went elsewhere")
    for name, found in confusion(routed).items():
        elsewhere = ", ".join(f"{other} {count}" for other, count in found.most_common() if other != name)
        right = f"[green]{found[name]}[/green]" if not elsewhere else f"[yellow]{found[name]}[/yellow]"
        made.add_row(escape(name), str(found.total()), right, escape(elsewhere))
    return made


def stage_table(routed: Sequence[Routed]) -> Table:
    made = table("decided by", "questions>", "right>")
    for stage, counts in by_stage(routed).items():
        made.add_row(stage, str(counts["questions"]), str(counts["right"]))
    return made


def _missed(missed: Sequence[Routed]) -> Table:
    made = table("question", "expected", "went to", "why")
    for one in missed:
        expected = one.golden.module + (f" ({one.golden.stage})" if one.golden.stage else "")
        made.add_row(
            escape(one.golden.question),
            escape(expected),
            escape(f"{one.module} ({one.plan.stage})"),
            escape(one.plan.reason),
        )
    return made


def _value(one: Routed) -> dict[str, Any]:
    return {
        "question": one.golden.question,
        "expected": one.golden.module,
        "expected_stage": one.golden.stage or None,
        "module": one.module,
        "stage": one.plan.stage,
        "reason": one.plan.reason,
        "confidence": one.plan.confidence,
    }
