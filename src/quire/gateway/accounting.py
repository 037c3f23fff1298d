"""Every request gets an id, is counted, and gets an answer in OpenAI's form even when the server has made a mistake."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from quire.gateway.error_bodies import INTERNAL, error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from quire.gateway.gateway import Gateway

log = logging.getLogger(__name__)


class Accounting:
    """ASGI middleware. Puts ``quire.request_id`` into the scope and the header ``x-request-id`` on the response."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["quire.request_id"] = f"req_{uuid.uuid4().hex}"
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            log.exception("%s failed", request_id)
            if status:
                raise  # too late for another answer: the web server cuts the connection
            await error_response(Request(scope), INTERNAL)(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._gateway.metrics.requests.labels(route, str(status or 499)).inc()
