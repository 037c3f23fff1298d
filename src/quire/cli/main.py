"""The entry point: commands in the order of their use, and what becomes of an error."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from quire import __version__
from quire.bench.command import bench
from quire.cli import (
    asking,
    auditing,
    building,
    canaries,
    catalogue,
    changing,
    checking,
    demonstration,
    doctor,
    following,
    keys,
    limiting,
    models,
    moving,
    routing,
    serving,
    sharing,
    single,
    starting,
    status,
    testing,
)
from quire.cli.screen import Screen
from quire.descriptors import raise_limit
from quire.errors import InvalidSetting, ProjectNotFound, QuireError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="quire",
    help="Compile static knowledge into transformer KV once; answer every question from it.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
KNOWLEDGE, ANSWERS, VERSIONS, UPKEEP = "Knowledge", "Answers", "Versions", "Upkeep"

app.command("init", rich_help_panel=KNOWLEDGE)(starting.init)
app.command("build", rich_help_panel=KNOWLEDGE)(building.build)
app.command("compile", rich_help_panel=KNOWLEDGE)(single.compile_one)
app.command("ls", rich_help_panel=KNOWLEDGE)(catalogue.ls)
app.command("show", rich_help_panel=KNOWLEDGE)(catalogue.show)
app.command("ask", rich_help_panel=ANSWERS)(asking.ask)
app.command("chat", rich_help_panel=ANSWERS)(asking.chat)
app.command("serve", rich_help_panel=ANSWERS)(serving.serve)
app.command("demo", rich_help_panel=ANSWERS)(demonstration.demo)
app.command("status", rich_help_panel=VERSIONS)(status.status)
app.command("publish", rich_help_panel=VERSIONS)(changing.publish)
app.command("retire", rich_help_panel=VERSIONS)(changing.retire)
app.command("rollback", rich_help_panel=VERSIONS)(changing.rollback)
app.command("revoke", rich_help_panel=VERSIONS)(changing.revoke)
app.command("pin", rich_help_panel=VERSIONS)(changing.pin)
app.command("unpin", rich_help_panel=VERSIONS)(changing.unpin)
app.add_typer(canaries.app, name="canary", rich_help_panel=VERSIONS)
app.add_typer(routing.app, name="route", rich_help_panel=VERSIONS)
app.command("doctor", rich_help_panel=UPKEEP)(doctor.doctor)
app.command("test", rich_help_panel=UPKEEP)(testing.check)
app.command("verify", rich_help_panel=UPKEEP)(checking.verify)
app.command("push", rich_help_panel=UPKEEP)(sharing.push)
app.command("pull", rich_help_panel=UPKEEP)(sharing.pull)
app.command("gc", rich_help_panel=UPKEEP)(checking.gc)
app.command("fsck", rich_help_panel=UPKEEP)(checking.fsck)
app.command("export", rich_help_panel=UPKEEP)(moving.export)
app.command("import", rich_help_panel=UPKEEP)(moving.import_)
app.add_typer(keys.app, name="keys", rich_help_panel=UPKEEP)
app.command("gateways", rich_help_panel=UPKEEP)(following.gateways)
app.command("limits", rich_help_panel=UPKEEP)(limiting.limits)
app.add_typer(auditing.app, name="audit", rich_help_panel=UPKEEP)
app.add_typer(models.app, name="model", rich_help_panel=UPKEEP)
app.add_typer(bench, name="bench", rich_help_panel=UPKEEP)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"quire {__version__}")
        raise typer.Exit


@app.callback()
def _quire(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compile static knowledge into transformer KV once; answer every question from it."""


def _require_working_directory() -> None:
    """Raises ProjectNotFound where it was deleted, in which nothing works: not even PyTorch can be imported."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise ProjectNotFound("the working directory is gone", hint="cd to one that is there") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code: 0, or the `exit_code` of the error (docs/cli.md)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of other libraries; ours are errors, said in full
    logging.getLogger("quire").addHandler(logging.NullHandler())
    as_json = "--json" in given
    raise_limit()
    try:
        _require_working_directory()
        code = app(args=given, prog_name="quire", standalone_mode=not as_json)
    except QuireError as error:
        Screen(as_json=as_json).error(error)
        sys.exit(error.exit_code)
    except TyperException as error:  # what typer itself refuses; without --json it draws a box
        context = getattr(error, "ctx", None)
        refused = InvalidSetting(str(error), hint=f"see {context.command_path if context else 'quire'} --help")
        Screen(as_json=True).error(refused)
        sys.exit(refused.exit_code)
    except typer.Abort:
        sys.exit(130)
    sys.exit(code or 0)
