"""A process that serves a project: where it listens, and how it stops."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import TYPE_CHECKING

import uvicorn

from quire.errors import InvalidSetting
from quire.gateway.app import create_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from quire.gateway.gateway import Gateway
    from quire.project import Project

FLUSH_SECONDS = 5  # for callers to read the end of a response after the drain


def serve(
    project: Project,
    *,
    host: str | None = None,
    port: int | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `project` until SIGTERM or SIGINT; blocks. Call it from the main thread, which receives the signals.

    The first signal starts a shutdown: no new answers (503), those under way have `server.drain_seconds` to finish.
    The second one ends them at once. The project stays open.

    Args:
        host: name or address to listen on; None: `server.host`.
        port: 0: any free one; None: `server.port`.
        ready: told the URL once requests are answered.

    Raises:
        InvalidSetting: a host or port that cannot be listened on, or one beyond loopback without
            `server.allow_unauthenticated`.
        ModelError: the model does not load.
    """
    host = project.settings["server.host"] if host is None else host
    port = project.settings["server.port"] if port is None else port
    with listen(host, port, beyond_loopback=project.settings["server.allow_unauthenticated"]) as listener:
        app = create_app(project)
        gateway: Gateway = app.state.gateway
        gateway.load()  # before the web server, which would answer an error with a traceback
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="on",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=FLUSH_SECONDS,
        )
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        server = _Server(config, gateway, (lambda: ready(url)) if ready else lambda: None)
        server.run(sockets=[listener])


def listen(host: str, port: int, *, beyond_loopback: bool) -> socket.socket:
    """A listening socket. Raises InvalidSetting."""
    if not 0 <= port <= 65535:
        raise InvalidSetting(
            f"server.port must be between 0 and 65535, found {port}", hint="choose another port; 0 means any free one"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InvalidSetting(
            f"server.host must be a name or address of this machine, found {host!r}: {error}", hint="e.g. 127.0.0.1"
        ) from error
    if not beyond_loopback and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise InvalidSetting(
            f"server.host is {host!r} ({address[0]}), which other machines can reach, and the server asks for no key",
            hint="listen on 127.0.0.1 behind a proxy that authenticates, or set server.allow_unauthenticated = true",
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise InvalidSetting(
            f"cannot listen on server.host {host!r}, server.port {port}: {error.strerror}",
            hint="stop the program that uses the port, or choose another one; 0 means any free one",
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Keeps answering while the last answers finish, so that probes see 503 and not a refused connection."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._ready = ready
        self._deadline = float("inf")  # monotonic seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Runs in a signal handler: only takes a note."""
        now = time.monotonic()
        drain_seconds = self._gateway.project.settings["server.drain_seconds"]
        self._deadline = now if self._gateway.draining else now + drain_seconds
        self._gateway.drain()

    async def on_tick(self, counter: int) -> bool:
        if self._gateway.draining:
            if time.monotonic() >= self._deadline:
                self._gateway.abandon()
                self.should_exit = True
            elif not self._gateway.active:
                self.should_exit = True
        return await super().on_tick(counter)
