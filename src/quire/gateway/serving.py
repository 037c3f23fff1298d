"""A process that serves a project: where it listens, and how it stops."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from quire.allocator import limit_heaps
from quire.descriptors import raise_limit
from quire.gateway.app import create_app
from quire.gateway.listening import listen
from quire.telemetry import fields, logs_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from quire.gateway.gateway import Gateway
    from quire.project import Project

log = logging.getLogger(__name__)

SWITCH_SECONDS = 5e-4  # that the event loop may keep the engine's thread from going on; Python's own is ten times it
FLUSH_SECONDS = 5  # for callers to read the end of a response after the drain


def serve(
    project: Project,
    *,
    host: str | None = None,
    port: int | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `project` until SIGTERM or SIGINT; blocks. Call it from the main thread, which receives the signals.

    It listens at once: while the model loads, /healthz answers, and all else says that it is not ready (503). The first
    signal starts a shutdown: no new requests (503), answers under way have `server.drain_seconds` to finish. The second
    one ends them at once. The project stays open: who closes it then is not disturbed: further signals are ignored.
    A signal while the model loads ends the process, with 0, and so does the end where a module is still being fetched.

    Args:
        host: name or address to listen on; None: `server.host`.
        port: 0: any free one; None: `server.port`.
        ready: told the URL once requests are answered, from another thread.

    Raises:
        InvalidSetting: a host or port that cannot be listened on, one beyond loopback without authentication, or
            settings of `access` that do not fit together.
        ModelError: the model does not load.
    """
    host = project.settings["server.host"] if host is None else host
    port = project.settings["server.port"] if port is None else port
    sys.setswitchinterval(SWITCH_SECONDS)
    limit_heaps()
    raise_limit()
    app = create_app(project, load=False)
    gateway: Gateway = app.state.gateway
    settings = project.settings
    with (
        listen(host, port, beyond_loopback=gateway.authenticator.asks, make_room=gateway.make_room) as listener,
        logs_written(settings["log.format"], settings["log.level"]),
    ):
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

        project.follower.announce(f"{socket.gethostname()}:{listener.getsockname()[1]}")

        def started() -> None:
            log.info("serving", extra=fields(url=url))
            if ready:
                ready(url)

        server = _Server(config, gateway, started)
        server.run(sockets=[listener])
        gc.unfreeze()  # other libraries count what is left at the end of the process as leaked
        if server.failure:
            raise server.failure
        log.info("stopped")
        if server.loading or gateway.busy:
            project.close_records()
            logging.shutdown()
            os._exit(0)  # nothing can stop these threads, and the interpreter would wait for them or go away under them


class _Server(uvicorn.Server):
    """Answers while the model loads and while the last answers finish: probes see 503, and no refused connection.

    `failure`: why the model did not load; the server has then stopped.
    """

    def __init__(self, config: uvicorn.Config, gateway: Gateway, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._ready = ready
        self._deadline = float("inf")  # monotonic seconds
        self._said = False
        self._loader = threading.Thread(target=self._load, name="quire-loading", daemon=True)
        self.failure: Exception | None = None

    @property
    def loading(self) -> bool:
        return self._loader.is_alive()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._loader.start()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but who has told us to end tells nobody else: the last records are being written then."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            told = self._deadline < float("inf")
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if told else handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Runs in a signal handler: only takes a note."""
        now = time.monotonic()
        drain_seconds = self._gateway.project.settings["server.drain_seconds"]
        self._deadline = now if self._gateway.draining else now + drain_seconds
        self._gateway.drain()

    async def on_tick(self, counter: int) -> bool:
        if self._gateway.draining:
            if not self._said:
                self._said = True
                log.info("shutting down", extra=fields(answers=len(self._gateway.active)))
            if time.monotonic() >= self._deadline:
                self._gateway.abandon()
                self.should_exit = True
            elif not self._gateway.active and not self._gateway.busy:
                self.should_exit = True
        return await super().on_tick(counter)

    def _load(self) -> None:
        try:
            self._gateway.load()
            gc.collect()
            gc.freeze()  # what is there now stays: collections, which stop all threads, need not look at it again
        except Exception as error:  # `serve` raises it when the web server has ended
            self.failure = error
            self.should_exit = True
        else:
            if not self._gateway.draining:
                self._ready()
