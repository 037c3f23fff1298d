"""`quire keys`: who may ask a server. Needs no model, and takes effect in a server that is running."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from quire.access import LOCAL, ROLES, Keys, Policy
from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, ProjectOption, Reason
from quire.cli.screen import Screen, facts, moment, table
from quire.registry import NOT_MADE, Recorder, actor, telling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from quire.access import KeyRecord, Principal
    from quire.settings import Settings

app = typer.Typer(help="API keys: who may ask a server.", no_args_is_help=True)
COLOURS = {"active": "green", "expired": "yellow", "revoked": "red"}
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as `quire keys ls` shows it.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Default: project.tenant.", show_default=False)]


@app.command("create")
def create(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What or whom it is for.")],
    tenant: Tenant = None,
    user: Annotated[
        str, typer.Option("--user", help="Whose key it is. Default: a program's.", show_default=False)
    ] = "",
    workspaces: Annotated[
        list[str] | None, typer.Option("--workspace", help="A workspace it may read. Repeatable.", show_default=False)
    ] = None,
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", help=f"{', '.join(ROLES)}. Repeatable. Default: reader.", show_default=False),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=3650, help="Default: it does not expire.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once: only a digest of it is kept."""
    screen = Screen(as_json=as_json)
    with telling(NOT_MADE), _open(project) as (settings, keys, me):
        record, key = keys.create(
            me,
            title,
            tenant=tenant or settings["project.tenant"],
            user=user,
            workspaces=workspaces or (),
            roles=roles or ("reader",),
            expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
        )
        asked_for = settings["access.keys"]
    screen.show({**record.as_json(), "key": key}, facts(_shown(record)), "", key)
    screen.note("keep it now: it cannot be shown again")
    if not asked_for:
        screen.note("the server does not ask for keys yet: set access.keys = true")


@app.command("ls")
def ls(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Default: all tenants.", show_default=False)] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys, of one tenant or of all."""
    screen = Screen(as_json=as_json)
    with _open(project) as (_, keys, me):
        records = keys.all(me, tenant)
    made = table("key", "state", "tenant", "user", "workspaces", "roles", "title", "expires", "last used")
    for record in records:
        principal = record.principal
        made.add_row(
            record.key_id,
            f"[{COLOURS[record.state()]}]{record.state()}[/]",
            principal.tenant,
            principal.user,
            ", ".join(sorted(principal.workspaces)),
            ", ".join(sorted(principal.roles)),
            escape(record.title),
            moment(record.expires_at) if record.expires_at else "never",
            moment(record.last_used_at) if record.last_used_at else "never",
        )
    screen.show({"keys": [record.as_json() for record in records]}, *([made] if records else []))
    if not records:
        screen.note("no keys yet: quire keys create TITLE")


@app.command("show")
def show(key: KeyId, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show whom a key stands for, and when it was made and used."""
    with _open(project) as (_, keys, me):
        record = keys.get(me, key)
    Screen(as_json=as_json).show(record.as_json(), facts(_shown(record)))


@app.command("revoke")
def revoke(
    key: KeyId, reason: Reason = "revoked by hand", project: ProjectOption = None, as_json: JsonOption = False
) -> None:
    """Let a key open nothing from now on. It stays in the list."""
    with telling(NOT_MADE), _open(project) as (_, keys, me):
        record = keys.revoke(me, key, reason)
    Screen(as_json=as_json).show(record.as_json(), f"{record.key_id} ({escape(record.title)}) is revoked")


def _shown(record: KeyRecord) -> dict[str, object]:
    principal = record.principal
    return {
        "key": record.key_id,
        "title": record.title,
        "state": record.state(),
        "tenant": principal.tenant,
        "user": principal.user,
        "workspaces": ", ".join(sorted(principal.workspaces)),
        "roles": ", ".join(sorted(principal.roles)),
        "made": f"{moment(record.created_at)} by {record.created_by}",
        "expires": moment(record.expires_at) if record.expires_at else "never",
        "revoked": moment(record.revoked_at) if record.revoked_at else "",
        "last used": moment(record.last_used_at) if record.last_used_at else "never",
    }


@contextmanager
def _open(project: Path | None) -> Iterator[tuple[Settings, Keys, Principal]]:
    """Settings, keys, and who is at the keyboard; what is done goes into the audit log."""
    with open_catalogue(project) as catalogue, closing(Recorder(catalogue.registry.audit, queue=64)) as recorder:
        keys = Keys(catalogue.registry.keys, Policy(recorder.tell_access))
        yield catalogue.settings, keys, replace(LOCAL, user=actor())
