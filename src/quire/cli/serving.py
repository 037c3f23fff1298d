"""`quire serve`: the HTTP server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from quire.cli.opening import open_project
from quire.cli.options import JsonOption, ProjectOption
from quire.cli.screen import Screen


def serve(
    host: Annotated[
        str | None, typer.Option("--host", help="Default: server.host of the settings.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Default: server.port; 0: any free one.", show_default=False),
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the project over HTTP, in OpenAI's protocol, until it is told to stop.

    The first SIGTERM or Ctrl-C lets running answers finish; the second ends them.
    """
    screen = Screen(as_json=as_json)
    with open_project(project, screen, outlasts_registry=True) as opened:
        from quire.gateway import serve as serve_http

        def ready(url: str) -> None:
            screen.show({"url": url}, f"serving {opened.settings['project.name']} on {url}/v1")
            sys.stdout.flush()

        serve_http(opened, host=host, port=port, ready=ready)
