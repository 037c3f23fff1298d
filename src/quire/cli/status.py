"""`quire status`: what is stale, why, what it drags along, and what building it anew would cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quire.cli.opening import open_catalogue, open_project
from quire.cli.options import JsonOption, ProjectOption
from quire.cli.screen import Screen, duration, moment, size, table
from quire.cli.speed import recall_speed
from quire.errors import ModulesOutdated, QuireError
from quire.registry import actor
from quire.router import undeclared_routes, unusable_rules
from quire.staleness import Checkout, assess, dragged_along, recall, recall_tokenizer, unproven

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from quire.compiler import ModulePlan
    from quire.registry import Reason
    from quire.router import Difference
    from quire.staleness import Assessment, Identity

SOON = timedelta(days=7)  # an expiry that is nearer than this is pointed out


def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 15 unless everything is up to date. Costs are not worked out.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which modules are stale and why, what stands behind them, and what building them anew would cost.

    Compares the sources, the layout, the model and quire.toml with what is live, and changes nothing. The model is not
    loaded, nor is PyTorch, unless files of the model or the layout were touched. Tokens are counted, bytes follow from
    them, and seconds are those of the prefill at the speed of the last build with this model: unknown before the first.
    """
    screen = Screen(as_json=as_json)
    identity = _identity(project, screen)
    with open_catalogue(project) as catalogue:
        with screen.waiting("reading sources"):
            found = assess(catalogue.settings, catalogue.registry, identity)
            untested = unproven(catalogue.settings, catalogue.registry, found)
            routes = undeclared_routes(catalogue.settings, catalogue.registry)
            unusable = unusable_rules(catalogue.registry)
        checkout = Checkout(catalogue.settings, actor=actor())
        elsewhere = {o.spec.module_id for o in found if o.live and o.reasons and not checkout.agreed_with(o.live)}
        speed = recall_speed(catalogue.settings, identity.model)
    outdated = [one for one in found if not one.fresh or one.spec.module_id in untested]
    costs = {} if check or not outdated else _costs(project, identity, speed, screen)
    rows = _values(found, untested, elsewhere, costs)
    total = _total(list(costs.values()), speed)
    expiring = [one.spec.module_id for one in found if _expires_soon(one)]
    value = {
        "modules": rows,
        "rebuild": total,
        "expiring": expiring,
        "routes": [_route_value(one) for one in routes],
        "unusable": unusable,
    }
    lines = [_route_lines(routes)] if routes else []
    screen.show(
        value,
        *_tables(found, rows, total, expiring, elsewhere),
        *lines,
        *(f"{escape(one)} (left out)" for one in unusable),
    )
    if check and (outdated or routes or unusable):
        names = ", ".join(one.spec.module_id for one in outdated)
        modules = [f"{len(outdated)} of {len(found)} modules are not up to date: {names}"] if outdated else []
        others = ["the routes in force are not those of quire.toml"] if routes else []
        raise ModulesOutdated(
            "; ".join([*modules, *others, *(["patterns of the routes in force are left out"] if unusable else [])]),
            hint="`quire status` says why, `quire build` brings them up to date",
        )


def state_of(one: Assessment, *, untested: bool) -> str:
    """``current``, ``stale``, ``expired``, ``untested`` (it has not passed its golden tests as they are now),
    ``missing`` (nothing is live) or ``unknown`` (its sources do not read)."""
    if one.problem:
        return "unknown"
    if one.live is None:
        return "missing"
    if one.reasons or one.expired:
        return "stale" if one.reasons else "expired"
    return "untested" if untested else "current"


def _identity(project: Path | None, screen: Screen) -> Identity:
    """As remembered, or else found, which imports PyTorch and transformers."""
    with open_catalogue(project) as catalogue:
        known = recall(catalogue.settings)
    if known:
        return known
    with open_project(project, screen) as opened:
        return opened.identify()


def _costs(
    directory: Path | None, identity: Identity, speed: float | None, screen: Screen
) -> dict[str, dict[str, Any]]:
    """By module: what a build would do, exactly. Empty where it would refuse, which is noted."""
    try:
        plans = _plans(directory, identity, screen)
    except QuireError as error:
        screen.note(f"a build would refuse: {error.message}")
        return {}
    return {
        plan.spec.module_id: {
            "action": plan.action,
            "reasons": [str(reason) for reason in plan.reasons],
            "tokens": len(plan.token_ids) if plan.action == "compile" else 0,
            "bytes": len(plan.token_ids) * identity.bytes_per_token if plan.action == "compile" else 0,
            "seconds": round(len(plan.token_ids) / speed, 3) if speed and plan.action == "compile" else None,
        }
        for plan in plans
        if plan.action != "current"
    }


def _plans(directory: Path | None, identity: Identity, screen: Screen) -> list[ModulePlan]:
    """Those of a build: by the tokenizer that was remembered with the identity, or else with transformers."""
    with open_catalogue(directory) as catalogue:
        settings, registry = catalogue.settings, catalogue.registry
        tokenizer = recall_tokenizer(settings)
        if tokenizer is not None:
            from quire.compiler import Layout, plan_build
            from quire.store import open_store

            with screen.waiting("counting tokens"):
                layout, store = Layout.parse(identity.layout, "remembered"), open_store(settings)
                return plan_build(settings, settings.modules, identity, tokenizer, layout, registry, store)
    with open_project(directory, screen) as project, screen.waiting("counting tokens"):
        return project.plan()


def _absence(cost: dict[str, Any] | None) -> str:
    """Why nothing of a module is live."""
    return "; ".join(cost["reasons"]) if cost else "nothing of it is live"


def _total(costs: Sequence[dict[str, Any]], speed: float | None) -> dict[str, Any]:
    tokens = sum(cost["tokens"] for cost in costs)
    seconds = round(tokens / speed, 3) if speed else None
    return {"tokens": tokens, "bytes": sum(cost["bytes"] for cost in costs), "seconds": seconds if tokens else 0.0}


def _values(
    found: Sequence[Assessment], untested: dict[str, Reason], elsewhere: set[str], costs: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    behind = dragged_along(found)
    tests = {name: (reason,) for name, reason in untested.items()}
    return [
        {
            "module": one.spec.module_id,
            "state": state_of(one, untested=one.spec.module_id in untested),
            "version": one.live.version if one.live else None,
            "reasons": [
                {"trigger": r.trigger, "text": r.text, "expected": r.expected, "found": r.found}
                for r in (*one.reasons, *tests.get(one.spec.module_id, ()))
            ],
            "problem": one.problem or None,
            "drags": behind[one.spec.module_id] if one.reasons else [],
            "when_stale": one.spec.stale,
            "built_elsewhere": one.spec.module_id in elsewhere,
            "marked_since": one.live.stale.since.isoformat() if one.live and one.live.stale else None,
            "expires_at": one.live.expires_at.isoformat() if one.live and one.live.expires_at else None,
            "expired": one.expired,
            "rebuild": costs.get(one.spec.module_id),
        }
        for one in found
    ]


def _tables(
    found: Sequence[Assessment],
    rows: Sequence[dict[str, Any]],
    total: dict[str, Any],
    expiring: Sequence[str],
    elsewhere: set[str],
) -> list[RenderableType]:
    if not found:
        return ["no modules are declared in quire.toml"]
    colours = dict.fromkeys(("stale", "missing", "untested"), "yellow") | {"current": "green"}
    made = table("module", "state", "why", "drags along", "expires", "tokens>", "size>", "time>")
    for one, row in zip(found, rows, strict=True):
        cost = row["rebuild"]
        why = (
            one.problem or "; ".join(r["text"] for r in row["reasons"]) or (_absence(cost) if one.live is None else "")
        )
        made.add_row(
            escape(row["module"]),
            f"[{colours.get(row['state'], 'red')}]{row['state']}[/]",
            escape(why),
            escape(", ".join(row["drags"])),
            _expiry(one),
            f"{cost['tokens']:,}" if cost else "",
            size(cost["bytes"]) if cost else "",
            _time(cost["seconds"], cost["tokens"]) if cost else "",
        )
    soon = [f"within a week expire: {', '.join(expiring)}"] if expiring else []
    if elsewhere:
        names = escape(", ".join(sorted(elsewhere)))
        soon.append(f"not built from this checkout, whose servers do not mark them: {names}")
    behind = sum(row["state"] != "current" for row in rows)
    counts = f"{behind} of {len(rows)} modules are not up to date"
    if not any(row["rebuild"] for row in rows):
        fresh = f"all {len(rows)} modules are up to date"
        return [made, *soon, counts if behind else fresh]
    cost = f"{total['tokens']:,} tokens, {size(total['bytes'])}, time {_time(total['seconds'], total['tokens'])}"
    return [made, *soon, f"{counts}; `quire build` would compute {cost}"]


def _route_value(one: Difference) -> dict[str, Any]:
    return {"module": one.subject or None, "name": one.name, "in_force": one.before, "declared": one.after}


def _route_lines(routes: Sequence[Difference]) -> str:
    lines = [f"  {escape(one.subject or 'all')}: {one.name} {escape(str(one))}" for one in routes]
    return "\n".join(["the routes in force are not those of quire.toml; `quire route build` makes them so:", *lines])


def _time(seconds: float | None, tokens: int) -> str:
    if not tokens:
        return "no prefill"
    return "unknown" if seconds is None else f"~{duration(seconds)}"


def _expiry(one: Assessment) -> str:
    expires_at = one.live.expires_at if one.live else None
    if expires_at is None:
        return ""
    if expires_at <= datetime.now(UTC):  # whatever else is so, it does not answer
        return f"[red]expired {moment(expires_at)}[/]"
    return f"[{'yellow' if _expires_soon(one) else 'dim'}]{moment(expires_at)}[/]"


def _expires_soon(one: Assessment) -> bool:
    expires_at = one.live.expires_at if one.live else None
    return expires_at is not None and not one.expired and expires_at - datetime.now(UTC) < SOON
