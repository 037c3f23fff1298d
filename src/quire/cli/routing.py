"""`quire route`: why a question goes where it goes, and the versions of the table that decides."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from quire.access import EVERYTHING
from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, ModuleOption, ProjectOption, Reason
from quire.cli.screen import Screen, facts, moment, table
from quire.errors import InvalidSetting, VersionUnknown
from quire.registry import actor
from quire.router import Hints, LiveRoutes, RouteTable, differences, plan_values, publish_routes

if TYPE_CHECKING:
    from rich.table import Table

    from quire.core import Plan
    from quire.registry import Registry, RouteVersion

app = typer.Typer(no_args_is_help=True, help="Why a question goes where it goes; versions of the route table.")

Version = Annotated[
    str | None,
    typer.Argument(metavar="[VERSION]", help="A version. Default: the one in force.", show_default=False),
]


@app.command("explain")
def explain(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What would be asked.")],
    module: ModuleOption = None,
    intent: Annotated[str | None, typer.Option("--intent", help="As `quire.intent` of a request.")] = None,
    product: Annotated[str | None, typer.Option("--product", help="As `quire.product`.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="As `quire.state`, of a workflow.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="NAME=VALUE", help="As `quire.metadata`. Repeatable.")
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which module would answer, by which stage, why, and what else was considered. Asks no model."""
    hints = Hints(intent, product, state, _pairs(metadata or ()))
    with open_catalogue(project) as catalogue:
        router = LiveRoutes(catalogue.registry.routes).current()
        plan = router.route(question, module=module, hints=hints, reach=EVERYTHING)
    Screen(as_json=as_json).show(
        {**plan_values(plan), "table": plan.table, "unusable": router.unusable},
        facts(
            {
                "module": plan.module_id or "none: the question is not covered",
                "stage": plan.stage,
                "reason": plan.reason if plan.module_id else "",
                "confidence": f"{plan.confidence:.2f}",
                "passed": "\n".join(plan.passed),
                "left out": "\n".join(router.unusable),
                "table": _short(plan.table),
            }
        ),
        *([_candidates(plan)] if plan.candidates else []),
    )


@app.command("ls")
def ls(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """The changes of the route table, newest first: when, by whom, why; and which one is in force."""
    with open_catalogue(project) as catalogue:
        routes = catalogue.registry.routes
        kept, history, in_force = routes.kept(), routes.history(), routes.digest_in_force()
    made = table("version", "", "since", "by", "why", "kept")
    rows = []
    for number, record in enumerate(history):
        now = number == 0 and record.digest == in_force
        kind, version = record.kind.partition(".")[2], _short(record.digest)
        since = moment(datetime.fromisoformat(record.at))
        made.add_row(
            version,
            "[green]in force[/green]" if now else kind,
            since,
            escape(record.who),
            escape(record.why),
            "" if record.digest in kept else "[dim]no[/dim]",
        )
        rows.append(
            {
                "version": version,
                "digest": record.digest,
                "change": kind,
                "in_force": now,
                "at": record.at,
                "actor": record.who,
                "reason": record.why,
                "kept": record.digest in kept,
            }
        )
    Screen(as_json=as_json).show({"tables": rows}, made if rows else "no route table yet: run `quire build`")


@app.command("show")
def show(version: Version = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """What a route table goes by: each module's rules, hints and examples, and the stages."""
    with open_catalogue(project) as catalogue:
        found = _find(catalogue.registry, version)
    read = RouteTable.parse(found.document, found.weights)
    made = table("module", "scope", "hints>", "keywords>", "patterns>", "conditions>", "priority>", "examples>")
    for module in read.modules:
        route = module.route
        hints = len(route.intents) + len(route.products) + len(route.states) + len(route.metadata)
        numbers = (
            hints,
            len(route.keywords),
            len(route.patterns),
            len(route.when),
            route.priority,
            len(route.examples),
        )
        made.add_row(escape(module.module_id), str(module.scope), *(str(number or "") for number in numbers))
    stages = read.values["stages"]
    Screen(as_json=as_json).show(
        {"version": found.version, "digest": found.digest, "created_at": found.created_at.isoformat(), **read.values},
        facts(
            {
                "version": found.version,
                "digest": found.digest,
                "made": moment(found.created_at),
                "weights": f"{len(found.weights):,} B",
                "outside": len(read.outside) or "",
                "stages": ", ".join(f"{name} {value}" for name, value in stages.items()),
            }
        ),
        made,
    )


@app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A version.")],
    after: Annotated[str | None, typer.Argument(metavar="[B]", help="Another. Default: the one in force.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is different in version B: rules, hints, examples, texts, stages."""
    with open_catalogue(project) as catalogue:
        old, new = (_find(catalogue.registry, version) for version in (before, after))
    found = differences(RouteTable.parse(old.document, old.weights), RouteTable.parse(new.document, new.weights))
    made = table("module", "what", "change")
    for one in found:
        made.add_row(escape(one.subject) or "[dim]all[/dim]", one.name, escape(str(one)))
    Screen(as_json=as_json).show(
        {
            "before": old.version,
            "after": new.version,
            "differences": [
                {"module": one.subject or None, "name": one.name, "before": one.before, "after": one.after}
                for one in found
            ],
        },
        made if found else f"{old.version} and {new.version} are declared alike",
    )


@app.command("build")
def build(reason: Reason = "built by hand", project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Make the route table anew and bring it into force, without compiling. `quire build` does this as well."""
    with open_catalogue(project) as catalogue:
        published = publish_routes(catalogue.settings, catalogue.registry, actor=actor(), reason=reason)
    version = _short(published.table.digest)
    modules = len(published.table.modules)
    Screen(as_json=as_json).show(
        {
            "version": version,
            "digest": published.table.digest,
            "changed": published.changed,
            "modules": modules,
            "unrouted": list(published.unrouted),
        },
        f"{version} is in force, with {modules} modules" if published.changed else f"{version} is in force already",
        *([f"not routed, for want of a live version: {', '.join(published.unrouted)}"] if published.unrouted else []),
    )


@app.command("rollback")
def rollback(
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="Default: the one before.", show_default=False)
    ] = None,
    reason: Reason = "rolled back by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring an earlier route table back into force. Repeated, it goes further back. Running servers follow at once."""
    with open_catalogue(project) as catalogue:
        before, now = catalogue.registry.routes.rollback(to=to, actor=actor(), reason=reason)
    Screen(as_json=as_json).show(
        {"before": before.version, "version": now.version, "digest": now.digest},
        f"{now.version} is in force instead of {before.version}",
    )


def _find(registry: Registry, version: str | None) -> RouteVersion:
    if version is not None:
        return registry.routes.get(version)
    if (found := registry.routes.in_force()) is None:
        raise VersionUnknown("no route table is in force", hint="run `quire build`, or `quire route build`")
    return found


def _pairs(given: list[str] | tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise InvalidSetting(
                f"expected NAME=VALUE, found {name + equals + value!r}", hint="--metadata channel=email"
            )
    return tuple({name: value for name, _, value in pairs}.items())


def _candidates(plan: Plan) -> Table:
    made = table("candidate", "stage", "score>", "why")
    for one in plan.candidates:
        made.add_row(escape(one.module_id), one.stage, f"{one.score:.2f}", escape(one.reason))
    return made


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]
