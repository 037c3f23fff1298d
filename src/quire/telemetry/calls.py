"""Which request is being answered, for whoever writes a log line meanwhile, also from threads that it waits for."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent id, flags; later versions may go on
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class Call:
    """A request's own id, and the trace that it is part of; "" where it is part of none."""

    request_id: str
    trace_id: str = ""


_current: ContextVar[Call | None] = ContextVar("quire_call", default=None)


def current_call() -> Call | None:
    """The request that this thread or task works for, if it is known."""
    return _current.get()


@contextmanager
def call_made(call: Call) -> Iterator[None]:
    """Lines that are logged within, also from `asyncio.to_thread`, belong to `call`."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def trace_id_of(traceparent: str) -> str:
    """The trace that a W3C ``traceparent`` header names, in 32 hex digits; "" where it is none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    return found[1] if found else ""
