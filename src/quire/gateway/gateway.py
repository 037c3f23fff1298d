"""What all requests of one server share: the project, the figures, the answers under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from quire.errors import EngineStopped
from quire.gateway.metrics import Metrics

if TYPE_CHECKING:
    from quire.gateway.generation import Generation
    from quire.project import Project
    from quire.wiring import Runtime


class Gateway:
    """One per application. Used from the event loop only, except where it says otherwise."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.metrics = Metrics()
        self.started_at = int(time.time())
        self.active: set[Generation] = set()
        self.draining = False
        self._runtime: Runtime | None = None

    def load(self) -> None:
        """Load the model and start the engine. Takes seconds: call it from a thread. May be called twice.

        Raises:
            ModelError.
        """
        self._runtime = self.project.runtime
        self.metrics.watch(self._runtime.pool, self._runtime.scheduler)

    @property
    def runtime(self) -> Runtime:
        """Raises EngineStopped before `load`."""
        if self._runtime is None:
            raise EngineStopped("the model is not loaded yet", hint="ask again when /readyz answers 200")
        return self._runtime

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

    def drain(self) -> None:
        """Accept no new answers from now on; those under way go on."""
        self.draining = True

    def abandon(self) -> None:
        """Cancel every answer under way; its caller is told that the server stopped."""
        for generation in tuple(self.active):
            generation.cancel()
