"""Log lines: one event each, in a form, and without what nobody but the caller should read."""

from __future__ import annotations

import io
import json
import logging
import threading
from contextlib import AbstractContextManager

import pytest

from quire.errors import StoreFull
from quire.telemetry import Call, call_made, fields, logs_written, trace_id_of

log = logging.getLogger("quire.test")
SECRET = "the-secret-question"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(params=["json", "readable"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(form: str, level: str = "info") -> tuple[io.StringIO, AbstractContextManager[None]]:
    stream = io.StringIO()
    return stream, logs_written(form, level, stream)


def test_an_event_is_one_line_with_what_is_known(form: str) -> None:
    stream, block = written(form)
    with block, call_made(Call("req-7", TRACE)):
        log.info("request", extra=fields(route="/v1/models", status=200, seconds=0.25, module=None, error=""))
    (line,) = stream.getvalue().splitlines()
    if form == "json":
        event = json.loads(line)
        assert event.pop("at").endswith("Z")
        assert event == {
            "level": "info",
            "logger": "quire.test",
            "event": "request",
            "request_id": "req-7",
            "trace_id": TRACE,
            "route": "/v1/models",
            "status": 200,
            "seconds": 0.25,
        }
    else:
        assert line.endswith(
            f"Z info quire.test request request_id=req-7 trace_id={TRACE} route=/v1/models status=200 seconds=0.25"
        )


def test_nothing_that_is_logged_can_look_like_another_line(form: str) -> None:
    stream, block = written(form)
    with block:
        log.info("a\nb %s", "c\r\n\x1b[31md\u2028e", extra=fields(why="one\n2026-11-25T10:00:00Z error quire forged"))
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_of_a_strange_exception_kind_and_place_are_logged_and_not_its_message(form: str) -> None:
    stream, block = written(form)
    with block:
        try:
            try:
                dict[str, str]()[SECRET]
            except KeyError:
                raise ValueError(SECRET)  # noqa: B904
        except ValueError:
            log.exception("a request failed")
    text = stream.getvalue()
    assert SECRET not in text
    assert "ValueError at test_logs.py:" in text
    assert "after KeyError at test_logs.py:" in text
    assert text.count("\n") == 1


def test_our_errors_say_why(form: str) -> None:
    stream, block = written(form)
    with block:
        try:
            raise StoreFull("no room at /data")
        except StoreFull:
            log.exception("a build failed")
    assert "StoreFull: no room at /data at test_logs.py:" in stream.getvalue()


def test_levels_are_of_our_loggers_and_of_uvicorn_and_others_begin_at_warnings() -> None:
    stream, block = written("readable", "warning")
    with block:
        log.info("not wanted")
        logging.getLogger("uvicorn.error").info("not wanted")
        logging.getLogger("uvicorn.error").warning("wanted 1")
        logging.getLogger("somebody").warning("wanted 2")
    stream_of_debug, block = written("readable", "debug")
    with block:
        log.debug("wanted 3")
        logging.getLogger("uvicorn.error").debug("wanted 4")
        logging.getLogger("somebody").info("not wanted")
    text = stream.getvalue() + stream_of_debug.getvalue()
    assert "not wanted" not in text
    assert [f"wanted {i}" in text for i in range(1, 5)] == [True] * 4


def test_afterwards_everything_is_as_before() -> None:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = (root.handlers[:], uvicorn.handlers[:], uvicorn.propagate, log.getEffectiveLevel())
    stream, block = written("json", "debug")
    with block:
        pass
    log.warning("not here")
    assert (root.handlers[:], uvicorn.handlers[:], uvicorn.propagate, log.getEffectiveLevel()) == before
    assert stream.getvalue() == ""


def test_a_thread_of_nobody_belongs_to_no_request() -> None:
    stream, block = written("json")
    with block, call_made(Call("req-8")):
        thread = threading.Thread(target=lambda: log.info("engine"))
        thread.start()
        thread.join()
    assert "request_id" not in json.loads(stream.getvalue())


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-later", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-00f067aa0ba902b7", ""),
        ("", ""),
        ("00-x\nforged", ""),
    ],
)
def test_the_trace_of_a_header(header: str, trace: str) -> None:
    assert trace_id_of(header) == trace
