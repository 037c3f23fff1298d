"""`quire publish`, `retire`, `rollback`, `revoke`, `pin`, `unpin`: what people decide about versions, on the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from quire.cli.catalogue import resolve, values
from quire.cli.following import require_confirmed
from quire.cli.opening import open_catalogue, open_project
from quire.cli.options import JsonOption, Module, ProjectOption, Reason, complete_module
from quire.cli.screen import Screen
from quire.cli.sharing import share
from quire.errors import GoldenNotRun, InvalidSetting
from quire.registry import MADE, NOT_MADE, actor, telling

if TYPE_CHECKING:
    from pathlib import Path


def publish(
    module: Annotated[
        str, typer.Argument(metavar="MODULE@VERSION", help="Which version.", autocompletion=complete_module)
    ],
    canary: Annotated[
        int | None,  # 0 would be a share for nobody, and must not make it live for everybody
        typer.Option(
            "--canary", min=1, max=100, help="Only for this share of the requests, in percent.", show_default=False
        ),
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="For no request: it is asked what the live version answered, to compare.")
    ] = False,
    reason: Reason = "published by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one version live, as after a build that was interrupted. `quire build` does this by itself.

    It is asked its golden tests first where it was not yet, which takes the model. Exits with 14 if they are red. With
    --canary or --shadow the live version stays, and `quire canary show` compares the two.
    """
    screen = Screen(as_json=as_json)
    if canary or shadow:
        _begin_canary(module, canary or 0, shadow, reason, project, screen)
        return
    try:
        with telling(NOT_MADE), open_catalogue(project) as catalogue:
            record = resolve(catalogue.registry, module)
            share(catalogue, record)
            live = catalogue.registry.publish(record.module_id, record.version, actor=actor(), reason=reason)
            screen.show(values(live), f"{live.ref} is live")
            require_confirmed(catalogue.registry, f"{live.ref} is live")
    except GoldenNotRun as error:
        screen.note(error.message)
        with (
            telling(NOT_MADE),
            open_project(project, screen) as opened,
            screen.waiting(f"asking {record.ref} its golden tests"),
        ):
            live = opened.publish(record, actor=actor(), reason=reason)
            screen.show(values(live), f"{live.ref} is live")
            require_confirmed(opened.registry, f"{live.ref} is live")


def _begin_canary(module: str, percent: int, shadow: bool, reason: str, project: Path | None, screen: Screen) -> None:
    try:
        with telling(NOT_MADE), open_catalogue(project) as catalogue:
            record = resolve(catalogue.registry, module)
            share(catalogue, record)
            start = catalogue.registry.canaries.start
            begun = start(record, percent=percent, shadow=shadow, actor=actor(), reason=reason)
    except GoldenNotRun as error:
        screen.note(error.message)
        with (
            telling(NOT_MADE),
            open_project(project, screen) as opened,
            screen.waiting(f"asking {record.ref} its golden tests"),
        ):
            begun = opened.start_canary(record, percent=percent, shadow=shadow, actor=actor(), reason=reason)
    screen.show(begun.as_json(), f"{begun.ref} takes {begun.told}; {begun.against} stays live")


def rollback(
    module: Annotated[str, typer.Argument(metavar="MODULE", help="A module.", autocompletion=complete_module)],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="VERSION", help="Default: what was live before.", show_default=False),
    ] = None,
    reason: Reason = "rolled back by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier version live again. Repeated, it goes further back."""
    with telling(NOT_MADE), open_catalogue(project) as catalogue:
        target = catalogue.registry.rollback_target(module, to)
        share(catalogue, target)
        before, now = catalogue.registry.rollback(module, to=target.version, actor=actor(), reason=reason)
        with telling(MADE):
            behind = [r for r in catalogue.registry.children(before) if r.state == "live"] if before else []
        previous = f" instead of {before.version}" if before else ""
        names = ", ".join(str(record.ref) for record in behind)
        Screen(as_json=as_json).show(
            {
                "before": values(before) if before else None,
                "live": values(now),
                "behind_before": [str(r.ref) for r in behind],
            },
            f"{now.ref} is live{previous}",
            *(
                [f"still live behind the other version: {names}; roll them back too if they should follow"]
                if behind
                else []
            ),
        )
        require_confirmed(catalogue.registry, f"{now.ref} is live")


def retire(
    module: Annotated[str, typer.Argument(metavar="MODULE", help="A module.", autocompletion=complete_module)],
    reason: Reason = "retired by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a module out of service: its live version answers no more. `publish` or `rollback` brings it back.

    So does the next `build`, as long as quire.toml declares it.
    """
    with telling(NOT_MADE), open_catalogue(project) as catalogue:
        live = catalogue.registry.live(module)
        retired = catalogue.registry.retire(live.module_id, live.version, actor=actor(), reason=reason)
        Screen(as_json=as_json).show(values(retired), f"{retired.ref} is retired; {module} has no live version")
        require_confirmed(catalogue.registry, f"{retired.ref} is retired")


def revoke(
    module: Annotated[
        str, typer.Argument(metavar="MODULE@VERSION", help="Which version.", autocompletion=complete_module)
    ],
    reason: Reason = "revoked by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forbid a version for good, and all that was compiled after it. Nothing answers from them any more, in any server.

    What a server is answering from them meanwhile ends as its setting engine.on_revoke says.
    """
    if "@" not in module:
        raise InvalidSetting(
            f"revoke needs a version, found {module!r}: it cannot be taken back",
            hint=f"`quire show {module}` lists the versions; `quire retire {module}` takes the live one out of service",
        )
    with telling(NOT_MADE), open_catalogue(project) as catalogue:
        record = resolve(catalogue.registry, module)
        changed = catalogue.registry.revoke(record.module_id, record.version, actor=actor(), reason=reason)
        below = ", ".join(str(one.ref) for one in changed if one.ref != record.ref)
        Screen(as_json=as_json).show(
            {"revoked": [values(one) for one in changed]},
            f"{record.ref} is revoked" if changed else f"{record.ref} was revoked already",
            *([f"with it, since they were compiled after it: {below}"] if below else []),
        )
        require_confirmed(catalogue.registry, f"{record.ref} is revoked")


def pin(
    module: Module, reason: Reason = "pinned by hand", project: ProjectOption = None, as_json: JsonOption = False
) -> None:
    """Protect a version from garbage collection. Default: the live one."""
    _set_pin(module, True, reason, project, as_json)


def unpin(
    module: Module, reason: Reason = "unpinned by hand", project: ProjectOption = None, as_json: JsonOption = False
) -> None:
    """Take the protection of `pin` away."""
    _set_pin(module, False, reason, project, as_json)


def _set_pin(module: str, pinned: bool, reason: str, project: ProjectOption, as_json: bool) -> None:
    with telling(NOT_MADE), open_catalogue(project) as catalogue:
        record = resolve(catalogue.registry, module)
        change = catalogue.registry.pin if pinned else catalogue.registry.unpin
        changed = change(record.module_id, record.version, actor=actor(), reason=reason)
    Screen(as_json=as_json).show(values(changed), f"{changed.ref} is {'pinned' if pinned else 'not pinned'}")
