"""Log lines: one event each, as JSON for programs or as text for people.

What people ask, what they are told and the keys they come with are never logged. Our own lines hold none of it; an
exception's message may, so of exceptions that are not ours only the kind and the place are written.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from quire.errors import QuireError
from quire.telemetry.calls import current_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
MOST_FRAMES = 12  # of an exception, the innermost
_OURS = ("quire", "uvicorn")  # whose level is the one that was asked for; others' lines begin at warnings
_OWN_HANDLERS = ("transformers", "uvicorn", "uvicorn.error")  # would write lines of a form of their own
_FIELDS = "quire_fields"


def fields(**known: Any) -> dict[str, Any]:
    """For ``extra`` of a logging call: what is known about the event, by name. None and "" are left out."""
    return {_FIELDS: {name: value for name, value in known.items() if value not in (None, "")}}


@contextmanager
def logs_written(form: str, level: str, stream: TextIO | None = None) -> Iterator[None]:
    """Write every log line of the process within the block to `stream` (default: stderr), in one of FORMATS."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(FORMATS[form]())
    changed = {name: logging.getLogger(name) for name in (None, *_OURS, *_OWN_HANDLERS)}
    before = [(one, one.handlers[:], one.level, one.propagate) for one in changed.values()]
    try:
        for name in _OWN_HANDLERS:
            changed[name].handlers, changed[name].propagate = [], True
        for name in _OURS:
            changed[name].setLevel(level.upper())
        changed[None].handlers = [handler]
        yield
    finally:
        for one, handlers, old_level, propagate in before:
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(old_level)


class JsonLines(logging.Formatter):
    """``{"at": ..., "level": ..., "logger": ..., "event": ..., ...}``"""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_event(record), default=str, separators=(",", ":"))


class ReadableLines(logging.Formatter):
    """``2026-11-25T10:00:00.000Z info quire.gateway request route=/v1/models status=200``"""

    def format(self, record: logging.LogRecord) -> str:
        event = _event(record)
        head = [event.pop(name) for name in ("at", "level", "logger", "event")]
        return " ".join([*map(_one_line, head), *(f"{name}={_plain(value)}" for name, value in event.items())])


FORMATS: Mapping[str, type[logging.Formatter]] = {"json": JsonLines, "readable": ReadableLines}


def _event(record: logging.LogRecord) -> dict[str, Any]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"at": at, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
    if call := current_call():
        event |= {"request_id": call.request_id, **({"trace_id": call.trace_id} if call.trace_id else {})}
    event |= getattr(record, _FIELDS, {})
    if record.exc_info and (error := record.exc_info[1]):
        event["exception"] = _described(error)
    return event


def _described(error: BaseException) -> str:
    """Kind, place, and what led to it; the message only of errors whose messages are ours or the system's."""
    said = f": {error}" if isinstance(error, QuireError | OSError) else ""
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    places = " < ".join(f"{PurePath(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    after = f", after {_described(cause)}" if cause else ""
    return f"{type(error).__qualname__}{said}{f' at {places}' if places else ''}{after}"


def _one_line(text: str) -> str:
    """Nothing that was logged may look like a line of its own."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _one_line(text) if text and not set(text) & set(' "=') else json.dumps(_one_line(text), ensure_ascii=False)
