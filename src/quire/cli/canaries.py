"""`quire canary`: a candidate beside the live version, what was seen of both, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from quire.cli.catalogue import values
from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, ProjectOption, Reason, complete_module
from quire.cli.screen import Screen, duration, facts, moment, table
from quire.registry import NOT_MADE, actor, telling

if TYPE_CHECKING:
    from rich.table import Table

    from quire.registry import Canary

app = typer.Typer(
    name="canary",
    help="A candidate beside the live version: what was seen of both, and how it ends.",
    no_args_is_help=True,
)
ModuleName = Annotated[str, typer.Argument(metavar="MODULE", help="A module.", autocompletion=complete_module)]


@app.command("ls")
def ls(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that ended, too.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the canaries that run. `quire publish MODULE@VERSION --canary 10` begins one."""
    screen = Screen(as_json=as_json)
    with open_catalogue(project) as catalogue:
        canaries = catalogue.registry.canaries
        found = canaries.newest() if everything else canaries.running()
    made = table("module", "candidate", "beside", "takes", "since", "requests>", "ended")
    for one in found:
        requests = sum(one.figures[f"{arm}.requests"] for arm in ("live", "candidate"))
        made.add_row(
            escape(one.module_id),
            one.version,
            one.against,
            one.told,
            moment(one.started_at),
            str(requests),
            escape(one.ended or ""),
        )
    screen.show({"canaries": [one.as_json() for one in found]}, *([made] if found else []))
    if not found:
        screen.note("no canary is running")


@app.command("show")
def show(module: ModuleName, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show what was seen of the two versions, of the canary that runs or else of the last one."""
    screen = Screen(as_json=as_json)
    with open_catalogue(project) as catalogue:
        canaries = catalogue.registry.canaries
        found = next(iter(canaries.newest(module, 1)), None) or canaries.current(module)
    screen.show(found.as_json(), overview(found), "", arms(found))


@app.command("stop")
def stop(
    module: ModuleName,
    reason: Reason = "stopped by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a canary: the live version answers everything again, within a second in every server."""
    with telling(NOT_MADE), open_catalogue(project) as catalogue:
        ended = catalogue.registry.canaries.stop(module, actor=actor(), reason=reason)
    Screen(as_json=as_json).show(ended.as_json(), overview(ended), "", arms(ended))


@app.command("promote")
def promote(
    module: ModuleName,
    reason: Reason = "promoted by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a canary by making its candidate live. Its golden tests are green already."""
    with telling(NOT_MADE), open_catalogue(project) as catalogue:
        found = catalogue.registry.canaries.current(module)
        live = catalogue.registry.publish(module, found.version, actor=actor(), reason=reason)
    Screen(as_json=as_json).show(values(live), f"{live.ref} is live")


def overview(canary: Canary) -> Table:
    """What it is, and how the two versions compare where both answered."""
    report = canary.as_json()
    pairs = report["compared"]
    return facts(
        {
            "candidate": canary.ref,
            "beside": canary.against,
            "takes": canary.told,
            "since": f"{moment(canary.started_at)}, by {canary.started_by}: {canary.reason}",
            "ended": f"{moment(canary.ended_at)}: {canary.ended}" if canary.ended_at else "",
            "same question to both": pairs or ("" if canary.shadow else "none: a share has questions of its own"),
            "identical answers": f"{report['identical']} of {pairs}" if pairs else "",
            "overlap of words": f"{report['overlap']:.2f} (F1)" if pairs else "",
            "dropped": f"{report['dropped']} questions, for others were waiting" if report["dropped"] else "",
        }
    )


def arms(canary: Canary) -> Table:
    """One row for each of them; times are those within which half of the answers came, and 95 %."""
    made = table(
        "answered by",
        "requests>",
        "answers>",
        "errors>",
        "refused>",
        "left>",
        "tokens>",
        "first token>",
        "whole answer>",
    )
    for name, one in canary.as_json()["arms"].items():
        made.add_row(
            f"{name} (nobody waits)" if name == "shadow" else name,
            str(one["requests"]),
            str(one["answers"]),
            f"{one['errors']} ({one['fallbacks']} fell back)" if one["fallbacks"] else str(one["errors"]),
            str(one["refusals"]),
            str(one["left"]),
            f"{one['tokens_per_answer']:g} each" if one["answers"] else "",
            _times(one["first_token_seconds"], one["first_token_p95_seconds"]),
            _times(one["answer_seconds"], one["answer_p95_seconds"]),
        )
    return made


def _times(half: float | None, most: float | None) -> str:
    return "" if half is None or most is None else f"{duration(half)}, 95 % {duration(most)}"
