"""One request's way through the server: what becomes known about it, and the line in the log that says so."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from quire.gateway.phases import of_passage
from quire.telemetry import Call, call_made, fields, trace_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Scope

    from quire.gateway.generation import Generation
    from quire.telemetry.traces import Arrival, Traces

log = logging.getLogger(__name__)

OTHER = "other"  # in the place of a path that we do not know
# What else is in the place of a method may be anything, so that it is not told: OpenTelemetry calls it _OTHER.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"}
PROBES = {"/healthz", "/readyz", "/metrics"}  # asked for every few seconds, by programs
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class Passage:
    """Made when a request arrives, and told along the way. Used from the event loop only.

    `status`: 0 until a response begins. `error`: the code of what the caller was told, in a stream too.
    """

    call: Call
    began: float
    status: int = 0
    error: str = ""
    generation: Generation | None = None
    answer_id: str = ""
    streamed: bool = False
    arrival: Arrival | None = None

    @classmethod
    def of(cls, scope: Scope, traces: Traces | None) -> Passage:
        """Of a request that arrives: under the id that it brings, if that can be one, and within its trace."""
        began = time.perf_counter()
        headers = Request(scope).headers
        brought = headers.getlist("x-request-id")
        fitting = len(brought) == 1 and _REQUEST_ID.fullmatch(brought[0])
        request_id = brought[0] if fitting else f"req_{uuid.uuid4().hex}"
        traced = traces is not None and scope["path"] not in PROBES
        arrival = traces.arrive(headers, scope["method"], began) if traces and traced else None
        trace_id = arrival.trace_id if arrival else trace_id_of(headers.get("traceparent", ""))
        return cls(Call(request_id, trace_id), began, arrival=arrival)

    @contextmanager
    def current(self) -> Iterator[None]:
        """What is logged and traced within belongs to this request."""
        with call_made(self.call), self.arrival.current() if self.arrival else nullcontext():
            yield

    @property
    def seconds(self) -> float:
        """Since it arrived."""
        return time.perf_counter() - self.began

    def end(self, scope: Scope) -> None:
        """Write the line that says how it went, and its trace."""
        route = route_of(scope)
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        if self.arrival:
            self.arrival.end(of_passage(self, method, route))
        quiet = route in PROBES and self.status == 200
        principal = scope.get("state", {}).get("principal")
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "request",
            extra=fields(
                method=method,
                route=route,
                status=self.status or 499,
                error=self.error,
                seconds=round(self.seconds, 6),
                tenant=principal and principal.tenant,
                **(self.generation.facts() if self.generation else {}),
            ),
        )


def passage_of(request: Request) -> Passage:
    """The passage that `Accounting` has made."""
    passage: Passage = request.scope["quire.passage"]
    return passage


def route_of(scope: Scope) -> str:
    """The path as docs/http.md has it, without the names of modules and keys in it."""
    path: Any = getattr(scope.get("route"), "path", OTHER)
    return str(path)
