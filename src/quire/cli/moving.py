"""`quire export` and `quire import`: a whole project into one place, and from there to another database and store."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, ProjectOption
from quire.cli.screen import Screen, facts, size
from quire.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def export(
    to: Annotated[str, typer.Argument(metavar="FILE.tar|DIR|URL", help="A new file or directory, or an object store.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the whole project to one place: registry with history and keys' digests, artifacts, and its own files.

    It is one moment of the project, which goes on serving. The same content gives the same bytes.
    """
    screen = Screen(as_json=as_json)
    with open_catalogue(project) as catalogue:
        from quire.backup import export_project
        from quire.backup.archives import open_target
        from quire.store import open_store

        settings = catalogue.settings
        store = open_store(settings, catalogue.registry.pinned_digests)
        options = {"endpoint": settings["store.endpoint"], "timeout": settings["store.timeout_seconds"]}
        with open_target(to, **options) as target, _bar(screen, "exporting") as tell:
            done = export_project(settings, catalogue.registry, store, target, tell)
    for name in done.left_out:
        screen.note(f"left out: {name}")
    screen.show(
        {
            "to": to,
            "versions": done.versions,
            "artifacts": done.artifacts,
            "files": done.files,
            "bytes": done.bytes,
            "audit_head": done.head,
            "digest": done.digest,
            "left_out": done.left_out,
        },
        facts(
            {
                "versions": done.versions,
                "files of the project": done.files,
                "size": size(done.bytes),
                "audit head": done.head,
                "digest": done.digest,
            }
        ),
        f"exported to {escape(to)}",
    )


def import_(
    source: Annotated[str, typer.Argument(metavar="FILE.tar|DIR|URL", help="What `quire export` wrote.")],
    project: Annotated[
        Path | None, typer.Option("--project", "-p", help="Directory of the project to make. Default: here.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give up the registry that is there, and write over files that differ.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a project from an export: all of it or nothing, with the same answers, digests and audit log.

    Where its registry and artifacts go, the settings say: those of a quire.toml that is there already, else the
    exported ones, and QUIRE_REGISTRY_URL and QUIRE_STORE_URL above both.
    """
    screen = Screen(as_json=as_json)
    root = (project or Path.cwd()).resolve()
    with screen.waiting("reading the export"):
        from quire.backup import import_project
        from quire.backup.archives import open_source

        here = load_settings(None, os.environ)
        options = {"endpoint": here["store.endpoint"], "timeout": here["store.timeout_seconds"]}
        opened = open_source(source, **options)
    with opened, _bar(screen, "importing") as tell:
        done = import_project(opened, root, replace=replace, tell=tell)
    if done.kept_settings:
        screen.note("quire.toml was there already and stays as it is; the exported one differs")
    screen.show(
        {
            "project": str(root),
            "artifacts": done.artifacts,
            "files": done.files,
            "bytes": done.bytes,
            "audit_head": done.head,
            "kept_settings": done.kept_settings,
        },
        facts({"artifacts": done.artifacts, "files of the project": done.files, "audit head": done.head}),
        f"imported into {escape(str(root))}; `quire audit verify` and `quire fsck` check it",
    )


@contextmanager
def _bar(screen: Screen, doing: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(doing), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    hidden = screen.as_json or not screen.notes.is_terminal
    with Progress(*columns, console=screen.notes, transient=True, disable=hidden) as bar:
        task = bar.add_task(doing)
        yield lambda done, total: bar.update(task, completed=done, total=total)
