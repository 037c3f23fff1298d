"""`quire build`: what has to be done and why, then doing it with progress in tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from quire.cli.golden import check_all_live, compared_table, failures_table, runs_table
from quire.cli.opening import open_project
from quire.cli.options import JsonOption, Modules, ProjectOption
from quire.cli.rebuilding import keep_building
from quire.cli.screen import Screen, duration, size, table
from quire.cli.speed import measure_speed, recall_speed, remember_speed
from quire.errors import InvalidSetting
from quire.registry import triggers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from quire.compiler import BuildReport, ModulePlan
    from quire.project import Project


COLOURS = {
    "withhold": "red",
    "compile": "yellow",
    "reissue": "cyan",
    "publish": "cyan",
    "renew": "cyan",
    "current": "dim",
}


def build(
    modules: Modules = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Build again whenever a source, quire.toml, the layout, the model or a golden file changes. After an "
            "error, what is live serves on, and the next change is another try. Ctrl-C ends it, with exit code 0.",
        ),
    ] = False,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Compile and test, and leave what is new as candidates.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring modules up to date: compile what changed, and make it live all at once.

    Ctrl-C stops after the step in progress; what is finished is kept, and the next build goes on from there. A version
    that fails its golden tests does not go live, nor does what stands on it: what was live serves on, and the command
    exits with 14. What was revoked is left out, with what stands on it; that is an error, 8, only if it was named. With
    --watch and --json each build is one line of JSON.
    """
    screen = Screen(as_json=as_json)
    if watch and dry_run:
        raise InvalidSetting("--watch and --dry-run do not go together", hint="leave one of them away")
    if watch:
        keep_building(
            project,
            screen,
            lambda opened: _build_again(opened, modules or (), screen, publish=not no_publish),
            only=modules or (),
        )
        return
    with open_project(project, screen) as opened:
        with screen.waiting("reading sources"):
            plans = opened.plan(modules or ())
        speed = speed_for(opened, plans, screen)
        if dry_run:
            screen.show({"plan": plan_values(opened, plans, speed)}, plan_table(opened, plans, speed))
            return
        if not as_json:
            screen.out.print(plan_table(opened, plans, speed))
        report, seconds = build_watched(opened, modules or (), plans, screen, publish=not no_publish)
        screen.show(
            {"plan": plan_values(opened, plans, speed), **report_values(report, seconds)},
            *outcome(report, seconds),
        )
        check_all_live(report, modules or (), screen)


def outcome(report: BuildReport, seconds: float) -> list[RenderableType]:
    """What a build did, for people."""
    tests = [runs_table(report.tested)] if report.tested else []
    failures = [failures_table(report.red)] if report.red else []
    compared = [compared_table(report.compared)] if any(one.changed for one in report.compared) else []
    return [*tests, *failures, *compared, told(report, seconds)]


def _build_again(project: Project, only: Sequence[str], screen: Screen, *, publish: bool) -> None:
    """One build of many: says what it does where it does something. Raises as `build`."""
    plans = project.plan(only)
    speed = recall_speed(project.settings, project.source.facts.fingerprint)
    if not screen.as_json and any(plan.action != "current" for plan in plans):
        screen.out.print(plan_table(project, plans, speed))
    report, seconds = build_watched(project, only, plans, screen, publish=publish)
    if screen.as_json:
        screen.line({"plan": plan_values(project, plans, speed), **report_values(report, seconds)})
    else:
        screen.out.print(*outcome(report, seconds), sep="\n")
    check_all_live(report, only, screen)


def speed_for(project: Project, plans: Sequence[ModulePlan], screen: Screen) -> float | None:
    """Tokens per second where something has to be compiled: remembered, else measured now."""
    if not any(plan.action == "compile" for plan in plans):
        return None
    if known := recall_speed(project.settings, project.source.facts.fingerprint):
        return known
    with screen.waiting("loading the model and measuring how fast this machine compiles"):
        return measure_speed(project)


def build_watched(
    project: Project, only: Sequence[str], plans: Sequence[ModulePlan], screen: Screen, *, publish: bool = True
) -> tuple[BuildReport, float]:
    """Build with progress; remembers how fast it went. Gives the report and seconds. Raises as `Project.build`."""
    if any(plan.action == "compile" for plan in plans):
        with screen.waiting("loading the model"):
            _ = project.model
    with BuildBar(plans, screen) as bar:
        began = time.perf_counter()
        report = project.build(only, progress=bar, publish=publish)
        seconds = time.perf_counter() - began
    if report.compiled:
        remember_speed(project, bar.tokens / bar.seconds)
    return report, seconds


def plan_table(project: Project, plans: Sequence[ModulePlan], speed: float | None) -> Table:
    """What a build does: one row a module, and the sum of what is to be compiled."""
    made = table("module", "action", "why", "tokens>", "size>", "time>")
    for row in plan_values(project, plans, speed):
        seconds = row["estimated_seconds"]
        made.add_row(
            row["module"],
            f"[{COLOURS[row['action']]}]{row['action']}[/]",
            "; ".join(row["reasons"]),
            f"{row['tokens']:,}",
            size(row["bytes"]),
            "" if seconds is None else f"~{duration(seconds)}",
        )
    compiling = [row for row in plan_values(project, plans, speed) if row["action"] == "compile"]
    if len(compiling) > 1:
        tokens = sum(row["tokens"] for row in compiling)
        total = sum(row["estimated_seconds"] or 0.0 for row in compiling)
        made.add_section()
        made.add_row(
            "[bold]to compile[/bold]",
            "",
            "",
            f"{tokens:,}",
            size(sum(row["bytes"] for row in compiling)),
            f"~{duration(total)}" if speed else "",
        )
    return made


def plan_values(project: Project, plans: Sequence[ModulePlan], speed: float | None) -> list[dict[str, Any]]:
    """The plan as JSON values."""
    per_token = project.source.facts.geometry.bytes_per_token
    return [
        {
            "module": plan.spec.module_id,
            "version": plan.version,
            "action": plan.action,
            "reasons": [str(reason) for reason in plan.reasons],
            "triggers": list(triggers_of(plan.reasons)),
            "parent": plan.parent.spec.module_id if plan.parent else None,
            "tokens": len(plan.token_ids),
            "position_start": plan.position_start,
            "bytes": len(plan.token_ids) * per_token,
            "estimated_seconds": round(len(plan.token_ids) / speed, 6) if speed and plan.action == "compile" else None,
        }
        for plan in plans
    ]


def report_values(report: BuildReport, seconds: float) -> dict[str, Any]:
    """What a build did, as JSON values."""
    lists = {
        "compiled": report.compiled,
        "reissued": report.reissued,
        "renewed": report.renewed,
        "published": report.published,
        "current": report.current,
    }
    named = {
        kind: [{"module": r.module_id, "version": r.version, "digest": r.digest} for r in refs]
        for kind, refs in lists.items()
    }
    return {
        **named,
        "tested": [run.as_json() for run in report.tested],
        "withheld": report.withheld,
        "compared": [one.as_json() for one in report.compared],
        "routes": report.routes,
        "seconds": round(seconds, 3),
    }


def told(report: BuildReport, seconds: float) -> str:
    """What a build did, in one sentence."""
    if not (report.compiled or report.published or report.renewed or report.routes or report.red):
        withheld = f", withheld {len(report.withheld)}" if report.withheld else ""
        return f"everything{' else' * bool(withheld)} is up to date ({len(report.current)} modules){withheld}"
    done = [f"compiled {len(report.compiled)}"]
    done += [
        f"{name} {len(refs)}" for name, refs in (("reissued", report.reissued), ("renewed", report.renewed)) if refs
    ]
    done += [f"published {len(report.published)}", f"current {len(report.current)}"]
    routes = ", new route table" if report.routes else ""
    if report.withheld:
        done.append(f"withheld {len(report.withheld)}")
    return f"{', '.join(done)}{routes} in {duration(seconds)}"


class Speed(ProgressColumn):
    """Tokens or questions of this task per second."""

    def render(self, task: Any) -> str:
        return f"{task.speed:,.0f} {task.fields['unit']}/s" if task.speed else ""


@dataclass(slots=True)
class BuildBar:
    """Progress of a build in tokens, then golden questions, with the time left; plain lines where nobody watches."""

    plans: Sequence[ModulePlan]
    screen: Screen
    tokens: int = 0
    seconds: float = 1e-9  # spent in computing tokens, loading not included
    _since: float = 0.0
    _bar: Progress = field(init=False)
    _task: TaskID = field(init=False)
    _asking: TaskID = field(init=False)

    def __post_init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            Speed(),
            TimeRemainingColumn(),
            console=self.screen.notes,
            transient=True,
            disable=self.screen.as_json or not self.screen.notes.is_terminal,
        )
        total = sum(len(plan.token_ids) for plan in self.plans if plan.action == "compile")
        self._task = self._bar.add_task("compiling", total=total or None, visible=total > 0, unit="tokens")
        self._asking = self._bar.add_task("golden tests", total=None, visible=False, unit="questions")

    def starting(self, plan: ModulePlan) -> None:
        self._bar.update(self._task, description=f"compiling {plan.spec.module_id}")
        if self._bar.disable:
            self.screen.note(f"compiling {plan.spec.module_id}: {len(plan.token_ids):,} tokens")
        self._since = time.perf_counter()

    def advance(self, plan: ModulePlan, tokens: int) -> None:
        self._bar.advance(self._task, tokens)
        now = time.perf_counter()
        self.tokens, self.seconds, self._since = self.tokens + tokens, self.seconds + now - self._since, now

    def finished(self, plan: ModulePlan) -> None:
        self.screen.note(f"compiled {plan.spec.module_id}@{plan.version}")

    def tested(self, done: int, total: int) -> None:
        if done == 1 and self._bar.disable:
            self.screen.note(f"asking {total} golden questions")
        self._bar.update(self._asking, completed=done, total=total, visible=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
