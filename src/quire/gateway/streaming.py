"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from quire.gateway.stale import answer_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from quire.gateway.generation import Generation

DONE = b"data: [DONE]\n\n"


def event(value: dict[str, Any], *, name: str = "") -> bytes:
    """One event with a JSON value in one line."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


class EventStream(Response):
    """A response that is written while its generation runs, and closes it whatever happens to the connection.

    Starlette's own streaming response leaves the iterator to the garbage collector when the caller goes away.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], generation: Generation) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(headers=headers | answer_headers(generation))
        del self.headers["content-length"]
        self._events = events
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for item in self._events:
                await send({"type": "http.response.body", "body": item, "more_body": True})
                # A lost connection shows in the event loop's next round: many events may be waiting, and each would be
                # written to it.
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._generation.close()
