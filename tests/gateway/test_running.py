"""Many at once, callers who leave, and the end of the process."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from scheduler.driving import Passes
from starlette.types import Message

from quire import open_project
from quire.gateway import create_app
from quire.model import DEFAULT_MODEL
from quire.registry import AuditFilter

from .conftest import StartServer, write_shop
from .process import Server, eventually

QUESTIONS = {"prices": "What does a bolt cost?", "shipping": "When does my parcel leave?"}
LONG: dict[str, Any] = {"max_tokens": 1500, "extra_body": {"ignore_eos": True}}


def body(module: str = "prices", **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTIONS[module]}]
    return {"model": "quire", "messages": messages, "max_tokens": 1500, "ignore_eos": True, **options}


async def test_sixteen_at_once_on_two_modules_say_what_each_says_alone(server: Server) -> None:
    async with server.async_openai() as client:

        async def ask(module: str, *, streamed: bool) -> str:
            messages: Any = [{"role": "user", "content": QUESTIONS[module]}]
            if not streamed:
                answer = await client.chat.completions.create(model="quire", messages=messages, max_tokens=24)
                assert (answer.model_extra or {})["quire"]["module"] == module
                return answer.choices[0].message.content or ""
            pieces = []
            stream = await client.chat.completions.create(model="quire", messages=messages, max_tokens=24, stream=True)
            async for chunk in stream:
                pieces.append(chunk.choices[0].delta.content or "")
            return "".join(pieces)

        alone = {module: await ask(module, streamed=False) for module in QUESTIONS}
        assert alone["prices"] != alone["shipping"]
        modules = list(QUESTIONS) * 8
        together = await asyncio.gather(*(ask(m, streamed=i % 4 < 2) for i, m in enumerate(modules)))
        assert together == [alone[module] for module in modules]
    assert await asyncio.to_thread(eventually, server.is_idle)


def test_a_caller_who_leaves_a_stream_stops_the_answer(server: Server) -> None:
    gone = server.metric("quire_errors_total", code="request_cancelled")
    with server.openai() as client:
        stream = client.chat.completions.create(
            model="quire", messages=[{"role": "user", "content": QUESTIONS["prices"]}], stream=True, n=3, **LONG
        )
        next(stream)
        assert eventually(lambda: server.metric("quire_answers_running") == 3)
        stream.close()
        assert eventually(server.is_idle)
    assert server.metric("quire_errors_total", code="request_cancelled") == gone + 1


@contextmanager
def streaming(server: Server, content: bytes) -> Iterator[socket.socket]:
    """A connection on which a stream has begun. It ends without a word, as that of a caller who crashes."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        assert connection.recv(1)
        yield connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_nothing_is_written_to_a_caller_who_left(start_server: StartServer) -> None:
    """Each step brings sixteen pieces at once: the first of them shows that the connection is gone."""
    server = start_server()
    for _ in range(5):
        with streaming(server, json.dumps(body(stream=True, n=16)).encode()):
            assert eventually(lambda: server.metric("quire_answers_running") == 16)
        assert eventually(server.is_idle)
    assert "socket.send() raised exception" not in server.log()


async def test_answers_of_a_caller_who_leaves_end_within_a_step(
    own_shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is held in the step in which the caller leaves: it begins no other."""
    passes, left, noticed = Passes(), asyncio.Event(), threading.Event()
    monkeypatch.setattr("quire.engine.local.forward", passes)
    with open_project(own_shop) as project:
        app = create_app(project, load=False)
        gateway = app.state.gateway
        await asyncio.to_thread(gateway.load)
        loop, sent = asyncio.get_running_loop(), [body(stream=True, n=4)]

        def hold() -> None:
            if len(passes.rows) >= 3:
                loop.call_soon_threadsafe(left.set)
                assert noticed.wait(60)

        async def receive() -> Message:
            if sent:
                return {"type": "http.request", "body": json.dumps(sent.pop()).encode(), "more_body": False}
            await left.wait()
            loop.call_later(0.05, noticed.set)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            """The caller's side, which nobody reads any more once the caller has left."""

        passes.before = hold
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": headers,
        }
        await app({**scope, "state": {}}, receive, send)
        assert await asyncio.to_thread(eventually, lambda: not project.runtime.scheduler.load().running)
        assert len(passes.rows) == 4
        await asyncio.to_thread(gateway.close)


def test_a_caller_who_does_not_wait_stops_the_answer(server: Server) -> None:
    before = server.metric("quire_tokens_total", kind="completion")
    with httpx.Client(base_url=server.url) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body(), timeout=0.3)
    assert eventually(server.is_idle)
    assert server.metric("quire_tokens_total", kind="completion") - before < 1500


def test_sigterm_lets_a_stream_finish(start_server: StartServer) -> None:
    server = start_server()
    with (
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=body(stream=True, max_tokens=1500)) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        server.terminate()
        assert eventually(lambda: server.get("/readyz").status_code == 503)
        assert server.get("/readyz").json()["code"] == "engine_stopped"
        assert server.get("/healthz").status_code == 200
        refused = server.post("/v1/chat/completions", json=body())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_stopped")
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["connection"] == "close"
        assert server.get("/v1/models").json()["error"]["code"] == "engine_stopped"
        assert server.get("/metrics").headers["connection"] == "close"
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
    code, left, log = server.end()
    assert (code, left) == (0, (0, 0, 0))
    assert ["shutting down answers=1" in log, "stopped" in log, "exception=" in log] == [True, True, False]


def test_what_does_not_finish_in_time_is_ended_and_everything_is_written(
    own_shop: Path, start_server: StartServer
) -> None:
    month = f"{datetime.now(UTC):%Y-%m}"
    with open_project(own_shop) as project:
        written, used = project.registry.audit.head().records, sum(project.registry.use.all(month).values())
    server = start_server(own_shop, **{"server.drain_seconds": 0.3, "audit.texts": "true"})
    with (
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        server.terminate()
        rest = [line for line in lines if line]
    assert rest[-2] == "event: error"
    error = json.loads(rest[-1].removeprefix("data: "))["error"]
    assert (error["code"], "stopped before the answer was complete" in error["message"]) == ("engine_stopped", True)
    assert server.end()[0] == 0
    with open_project(own_shop) as project:
        given, decided = (r for r in project.registry.audit.newest(AuditFilter(), 2) if r.sequence > written)
        used = sum(project.registry.use.all(month).values()) - used
    assert (given.kind, given.why, given.module) == ("answer.given", "cancelled", "prices")
    assert (decided.kind, decided.module) == ("route.decision", "prices")
    assert given.details["question"] == QUESTIONS["prices"]
    assert used > 10, "tokens of the question and of what there was of the answer"


def test_a_second_signal_ends_everything_at_once(start_server: StartServer) -> None:
    server = start_server(**{"server.drain_seconds": 3600})
    with (
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        server.terminate()
        assert eventually(lambda: server.get("/readyz").status_code == 503)
        began = time.monotonic()
        server.terminate()
        assert "event: error" in list(lines)
    assert (server.end()[0], time.monotonic() - began < 5) == (0, True)


def test_a_full_queue_and_a_shutdown_that_does_not_wait(start_server: StartServer) -> None:
    settings = {"engine.max_sequences": 1, "engine.queue": 1, "server.drain_seconds": 0.2}
    server = start_server(**settings)
    with server.openai() as client:
        messages: Any = [{"role": "user", "content": QUESTIONS["prices"]}]
        stream = client.chat.completions.create(model="quire", messages=messages, stream=True, **LONG)
        next(stream)
        waiting = threading.Thread(target=_expect_stopped, args=(server,))
        waiting.start()
        assert eventually(lambda: server.metric("quire_answers_waiting") == 1)
        with pytest.raises(openai.RateLimitError) as busy:
            client.chat.completions.create(model="quire", messages=messages, max_tokens=4)
        assert busy.value.response.headers["retry-after"]
        with pytest.raises(openai.RateLimitError):  # the answers that did find room are given up with the others
            client.chat.completions.create(model="quire", messages=messages, max_tokens=4, n=2)
        assert server.metric("quire_answers_waiting") == 1
        server.terminate()
        with pytest.raises(openai.APIError, match="the server stopped before the answer was complete"):
            list(stream)
        waiting.join()
    code, left, log = server.end()
    assert (code, left) == (0, (0, 0, 0))
    assert "exception=" not in log


def _expect_stopped(server: Server) -> None:
    response = server.post("/v1/chat/completions", json=body())
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_stopped")


def test_the_default_model(start_server: StartServer, smol_home: Path, tmp_path: Path) -> None:
    write_shop(tmp_path, DEFAULT_MODEL)
    with open_project(tmp_path) as project:
        project.build()
        expected = project.ask(QUESTIONS["prices"], max_tokens=16).text()
    assert expected

    async def ask(server: Server) -> str:
        async with server.async_openai() as client:
            stream = await client.chat.completions.create(
                model=DEFAULT_MODEL,
                messages=[{"role": "user", "content": QUESTIONS["prices"]}],
                max_tokens=16,
                stream=True,
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask(start_server(tmp_path))) == expected
