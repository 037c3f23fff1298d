"""Every request gets an id, is counted, and gets an answer in OpenAI's form even when the server has made a mistake."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from quire.gateway.error_bodies import INTERNAL, error_response
from quire.gateway.passage import Passage, route_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from quire.gateway.gateway import Gateway

log = logging.getLogger(__name__)


class Accounting:
    """ASGI middleware. Puts a `Passage` into the scope and the header ``x-request-id`` on the response."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = scope["quire.passage"] = Passage.of(scope, self._gateway.traces)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                passage.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = passage.call.request_id
                if self._gateway.draining:
                    headers["connection"] = "close"
            await send(message)

        with passage.current():
            try:
                await self._app(scope, receive, counted)
            except Exception:
                log.exception("a request failed")
                if passage.status:
                    raise  # too late for another answer: the web server cuts the connection
                await error_response(Request(scope), INTERNAL)(scope, receive, counted)
            finally:
                route, metrics = route_of(scope), self._gateway.metrics
                metrics.requests.labels(route, str(passage.status or 499)).inc()
                metrics.request_seconds.labels(route).observe(passage.seconds)
                passage.end(scope)
