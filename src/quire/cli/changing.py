"""`quire publish`, `retire`, `rollback`, `pin`, `unpin`: decisions of a person about versions, kept in the history."""

from __future__ import annotations

from typing import Annotated

import typer

from quire.cli.catalogue import resolve, values
from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, Module, ProjectOption, Reason, complete_module
from quire.cli.screen import Screen
from quire.registry import actor


def publish(
    module: Annotated[
        str, typer.Argument(metavar="MODULE@VERSION", help="Which version.", autocompletion=complete_module)
    ],
    reason: Reason = "published by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one version live, as after a build that was interrupted. `quire build` does this by itself."""
    with open_catalogue(project) as catalogue:
        record = resolve(catalogue.registry, module)
        live = catalogue.registry.publish(record.module_id, record.version, actor=actor(), reason=reason)
    Screen(as_json=as_json).show(values(live), f"{live.ref} is live")


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
    with open_catalogue(project) as catalogue:
        before, now = catalogue.registry.rollback(module, to=to, actor=actor(), reason=reason)
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


def retire(
    module: Annotated[str, typer.Argument(metavar="MODULE", help="A module.", autocompletion=complete_module)],
    reason: Reason = "retired by hand",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a module out of service: its live version answers no more. `publish` or `rollback` brings it back."""
    with open_catalogue(project) as catalogue:
        live = catalogue.registry.live(module)
        retired = catalogue.registry.retire(live.module_id, live.version, actor=actor(), reason=reason)
    Screen(as_json=as_json).show(values(retired), f"{retired.ref} is retired; {module} has no live version")


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
    with open_catalogue(project) as catalogue:
        record = resolve(catalogue.registry, module)
        change = catalogue.registry.pin if pinned else catalogue.registry.unpin
        changed = change(record.module_id, record.version, actor=actor(), reason=reason)
    Screen(as_json=as_json).show(values(changed), f"{changed.ref} is {'pinned' if pinned else 'not pinned'}")
