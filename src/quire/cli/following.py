"""`quire gateways`, and what a command says about servers that have not heard of a change yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, ProjectOption
from quire.cli.screen import Screen, table
from quire.errors import NotConfirmed, RegistryBusy, RegistryUnreachable

if TYPE_CHECKING:
    from quire.registry import Registry


def gateways(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show the servers on this registry, and which of them have applied the newest change.

    One that fell silent stays in the list for as long as it may still answer from what it knows
    (registry.stale_seconds).
    """
    with open_catalogue(project) as catalogue:
        states = catalogue.registry.gateways.all()
        newest = catalogue.registry.generation()
    rows = table("server", "state", "generation>", "heard of", "since")
    for one in states:
        state = "[red]silent[/red]" if one.is_silent else "following"
        behind = f" (behind by {newest - one.generation})" if one.generation < newest else ""
        heard = f"{one.silent_seconds:.0f} s ago"
        rows.add_row(escape(one.name), state, f"{one.generation}{behind}", heard, f"{one.started_at:%Y-%m-%d %H:%M}")
    shown = [{**one.as_json(), "behind": newest - one.generation} for one in states]
    Screen(as_json=as_json).show({"generation": newest, "gateways": shown}, rows if states else "no server is running")


def require_confirmed(registry: Registry, change: str) -> None:
    """Wait a moment until every server has applied what was changed. `change`: what it is, as in ``x is revoked``.

    Raises:
        NotConfirmed: naming those that have not. The change is made all the same.
    """
    try:
        behind = registry.gateways.unconfirmed(registry.generation())
        servers = len(registry.gateways.all())
    except (RegistryBusy, RegistryUnreachable) as error:
        raise NotConfirmed(
            f"{change}, but nobody can say which servers follow it: {error.message}",
            hint="they apply it when they reach the registry; see `quire gateways`",
        ) from error
    if not behind:
        return
    names = ", ".join(
        f"{one.name} (silent for {one.silent_seconds:.0f} s)" if one.is_silent else one.name for one in behind
    )
    longest = max(one.stale_seconds for one in behind)
    raise NotConfirmed(
        f"{change}, but {len(behind)} of {servers} servers have not confirmed it: {names}",
        hint=f"they apply it when they reach the registry, and answer nothing after {longest:g} s without it; "
        "see `quire gateways`, or stop them",
    )
