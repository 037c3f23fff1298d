"""What all requests of one server share: the project, the figures, the answers under way."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from quire import __version__
from quire.access import LOCAL
from quire.errors import EngineLoading, EngineStopped, TokenKeysMissing
from quire.gateway.authentication import open_authenticator
from quire.gateway.metrics import Metrics
from quire.gateway.readiness import LiveChains, Readiness, open_modules
from quire.gateway.watching import open_watch
from quire.telemetry import fields, open_traces

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.gateway.generation import Generation
    from quire.project import Project
    from quire.registry import VersionRecord
    from quire.settings import Settings
    from quire.telemetry.traces import Traces
    from quire.wiring import Runtime

log = logging.getLogger(__name__)

LONG_CALLS = 24  # at once
_Result = TypeVar("_Result")


class Gateway:
    """One per application. Used from the event loop only, except where it says otherwise.

    Making one raises InvalidSetting for settings of `access` that do not fit together, or traces that cannot be had.
    """

    def __init__(self, project: Project) -> None:
        self.project: Project = project
        self.authenticator = open_authenticator(project.settings, project.access)
        self.metrics = Metrics(project)
        self.traces = _open_traces(project.settings)
        self.started_at = int(time.time())
        self.active: set[Generation] = set()
        self.draining = False
        self._threads = ThreadPoolExecutor(LONG_CALLS, thread_name_prefix="quire-gateway")
        self._calls: set[Future[Any]] = set()
        self._loaded = threading.Event()
        self.chains = LiveChains(lambda: project.known, self._answering)
        self.readiness = Readiness(self)
        self._runtime: Runtime | None = None
        self._watch = open_watch(project)

    def load(self) -> None:
        """Load the model and start the engine. Takes seconds: call it from a thread. May be called twice.

        Raises:
            ModelError.
        """
        if self._runtime is not None:
            return
        log.info("loading the model")
        began = time.perf_counter()
        runtime = self.project.runtime
        log.info(
            "the model is loaded",
            extra=fields(model=runtime.model.facts.name, seconds=round(time.perf_counter() - began, 3)),
        )
        self.project.warn_of_network()
        try:
            self.authenticator.check()
        except TokenKeysMissing as error:  # they may come yet, and API keys open meanwhile
            log.warning("tokens cannot be checked", extra=fields(why=error.message, hint=error.hint))
        self.metrics.observed.watch(runtime, self._watch)
        self._runtime = runtime
        if (which := self.project.settings["server.open_modules"]) != "none":
            open_modules(self, which)
        self._loaded.set()
        if self._watch:
            self._watch.start()

    @property
    def runtime(self) -> Runtime:
        """Raises EngineLoading before `load`."""
        if self._runtime is None:
            raise _loading()
        return self._runtime

    async def in_thread(self, call: Callable[[], _Result]) -> _Result:
        """Run what may wait long, for an object store or for golden tests, in a thread that no short call needs.

        Keys, limits and lists go to asyncio's own threads, of which there are few.
        """
        submitted = self._threads.submit(contextvars.copy_context().run, call)
        self._calls.add(submitted)
        submitted.add_done_callback(self._calls.discard)
        return await asyncio.wrap_future(submitted)

    @property
    def busy(self) -> bool:
        """Whether a call of `in_thread` goes on. Any thread."""
        return bool(self._calls)

    def restart_needed(self) -> bool:
        """Whether live versions are for another model than the one that was loaded."""
        return self._runtime is not None and bool(self._runtime.answerer.fitting.misfits())

    def _answering(self, live: tuple[VersionRecord, ...]) -> tuple[VersionRecord, ...]:
        return live if self._runtime is None else self._runtime.answerer.fitting.chain(live, LOCAL)

    @property
    def most_body_bytes(self) -> int:
        """A larger request body is refused."""
        return int(self.project.settings["server.max_body_bytes"])

    @property
    def model_name(self) -> str:
        """What `/v1/models` calls the model that is served."""
        return self.runtime.model.facts.name

    def check_open(self) -> None:
        """Raises EngineStopped once a shutdown has begun: no new answers then."""
        if self.draining:
            raise EngineStopped("the server is shutting down", hint="ask again in a moment, or another server")

    def check_loaded(self) -> None:
        """Raises EngineLoading while `load` has not done all it should."""
        if not self._loaded.is_set():
            raise _loading()

    def check_weights(self) -> None:
        """Raises ModelChanged once files of the loaded model are known to have changed."""
        if self._runtime is not None:
            self._runtime.model.check()

    def check_routes(self) -> None:
        """Raises RegistryError, RouteTableInvalid where no router can be made of the table in force."""
        self.runtime.answerer.routes.current()

    def make_room(self) -> int:
        """Close idle modules, as connections need their descriptors; gives how many."""
        return self._runtime.pool.make_room() if self._runtime else 0

    def drain(self) -> None:
        """Accept no new answers from now on; those under way go on."""
        self.draining = True

    def close(self) -> None:
        """Look at the sources no more, and send the traces that are left. May take seconds: call it from a thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.traces:
            self.traces.close()
        if self._watch:
            self._watch.stop()

    def abandon(self) -> None:
        """Cancel every answer under way; its caller is told that the server stopped."""
        for generation in tuple(self.active):
            generation.cancel()


def _open_traces(settings: Settings) -> Traces | None:
    return open_traces(
        settings["tracing.endpoint"],
        share=settings["tracing.share"],
        service=settings["tracing.service"],
        version=__version__,
    )


def _loading() -> EngineLoading:
    return EngineLoading("the model is being loaded", hint="ask again when /readyz answers 200")
