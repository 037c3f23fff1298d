"""Traces as a real collector receives them: who is within whom, how long it took, and no word of what was asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from telemetry.collector import Collector, Span, collecting

from quire import open_project
from quire.errors import InvalidSetting

from .conftest import StartServer
from .process import Server, eventually

SLACK = 0.5  # seconds: what a busy machine may put between two threads or processes that do the same
SERVER, INTERNAL = 2, 1  # SpanKind in OTLP
QUESTION: dict[str, Any] = {
    "model": "quire",
    "messages": [{"role": "user", "content": "What does a bolt cost?"}],
    "ignore_eos": True,
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(shop: Path, collector: Collector) -> Iterator[Server]:
    with Server(shop, **{"tracing.endpoint": collector.url, "tracing.service": "shop"}) as running:
        yield running


def ask(server: Server, number: int, **body: Any) -> tuple[str, str, float]:
    """The id of the trace that a question is part of, of its caller's span, and how long the caller waited."""
    trace, caller = f"{number:032x}", f"{number:016x}"
    began = time.perf_counter()
    sent = {"traceparent": f"00-{trace}-{caller}-01", "x-request-id": f"asked-{number}"}
    server.post("/v1/chat/completions", json={**QUESTION, **body}, headers=sent)
    return trace, caller, time.perf_counter() - began


def only(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_a_question_is_a_server_span_with_its_phases_within(traced: Server, collector: Collector) -> None:
    trace, caller, waited = ask(traced, 1, max_tokens=12, temperature=0.0, stream=True)
    spans = collector.of(trace, 7)
    model = traced.get("/v1/models").json()["data"][0]["id"]
    whole, chat = only(spans, "POST /v1/chat/completions"), only(spans, f"chat {model}")
    phases = [only(spans, name) for name in ("route", "restore", "queue", "prefill", "decode")]
    assert (whole.parent, whole.kind, whole.service, whole.failed) == (caller, SERVER, "shop", False)
    assert (chat.parent, chat.kind) == (whole.span, INTERNAL)
    assert {(phase.parent, phase.kind, phase.failed) for phase in phases} == {(chat.span, INTERNAL, False)}
    assert len(spans) == 7
    assert whole.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "quire.request_id": "asked-1",
    }
    usage = {name: value for name, value in chat.attributes.items() if name.startswith("gen_ai.usage.")}
    assert usage["gen_ai.usage.output_tokens"] == 12
    assert 0 < usage["gen_ai.usage.cache_read.input_tokens"] < usage["gen_ai.usage.input_tokens"]
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.response.finish_reasons": ["length"],
    }
    told |= {"gen_ai.request.max_tokens": 12, "gen_ai.request.stream": True, "gen_ai.provider.name": "quire"}
    assert chat.attributes.items() >= told.items()
    assert chat.attributes["gen_ai.response.id"].startswith("chatcmpl-")
    route, restore, _, prefill, decode = phases
    assert (route.attributes["quire.module"], route.attributes["quire.stage"]) == ("prices", "rule")
    assert restore.attributes["quire.restored_tokens"] == usage["gen_ai.usage.cache_read.input_tokens"]
    assert prefill.attributes["quire.computed_tokens"] == (
        usage["gen_ai.usage.input_tokens"] - usage["gen_ai.usage.cache_read.input_tokens"]
    )
    assert decode.attributes["gen_ai.usage.output_tokens"] == 12
    assert 1 < decode.attributes["quire.steps"] <= 14, "tokens that are guessed come several in a step"
    # Each phase begins when the one before it ends, or a little later, and all of them are within the whole.
    assert whole.began <= chat.began <= route.began
    for before, after in pairwise(phases):
        assert -1e-6 <= after.began - before.ended < SLACK
    assert decode.ended <= chat.ended + SLACK
    assert chat.ended <= whole.ended
    assert sum(phase.seconds for phase in phases) <= whole.seconds < waited + SLACK
    assert chat.attributes["gen_ai.response.time_to_first_chunk"] <= decode.began - whole.began + SLACK


def test_requests_that_share_steps_have_their_own_true_times(traced: Server, collector: Collector) -> None:
    """A long answer and a short one that comes while it runs."""
    long = threading.Thread(target=ask, args=(traced, 2), kwargs={"max_tokens": 1500})
    long.start()
    while not traced.metric("quire_answers_running"):
        time.sleep(0.01)
    trace, _, waited = ask(traced, 3, max_tokens=10)
    long.join()
    short, other = (only(collector.of(one, 7), "decode") for one in (trace, f"{2:032x}"))
    assert other.began < short.began < short.ended < other.ended
    assert short.seconds < waited + SLACK
    assert (short.attributes["quire.widest_step"], other.attributes["quire.widest_step"]) == (2, 2)
    assert 1500 >= other.attributes["quire.steps"] > short.attributes["quire.steps"] > 1


def test_several_answers_have_their_phases_each(traced: Server, collector: Collector) -> None:
    trace, _, _ = ask(traced, 4, max_tokens=4, n=3, temperature=1.0, seed=5)
    spans = collector.of(trace, 2 + 2 + 9)
    chat = next(span for span in spans if span.name.startswith("chat "))
    assert (chat.attributes["gen_ai.request.choice.count"], chat.attributes["gen_ai.request.seed"]) == (3, 5)
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["length"] * 3
    assert sorted(s.attributes["quire.answer"] for s in spans if s.name == "decode") == [0, 1, 2]
    assert [s.name for s in spans].count("route") == 1


def test_what_fails_says_so(traced: Server, collector: Collector) -> None:
    trace, _, _ = ask(traced, 5, quire={"module": "no-such-module"})
    spans = collector.of(trace, 3)
    whole, route = only(spans, "POST /v1/chat/completions"), only(spans, "route")
    assert (route.failed, route.attributes["error.type"]) == (True, "module_unknown")
    assert (whole.failed, whole.attributes["http.response.status_code"]) == (False, 404), "it is the caller's mistake"


def test_no_word_of_anybody_is_in_it_and_probes_are_not_traced(traced: Server, collector: Collector) -> None:
    secret = f"secret{os.urandom(4).hex()}"
    question = [{"role": "user", "content": f"What does a bolt cost, {secret}?"}]
    quire = {"session": secret, "metadata": {"plan": secret}}
    trace, _, _ = ask(traced, 6, messages=question, stop=[secret], user=secret, quire=quire, max_tokens=4)
    collector.of(trace, 7)
    sent = {"traceparent": f"00-{7:032x}-{7:016x}-01", "authorization": f"Bearer {secret}"}
    traced.get(f"/v1/modules/{secret}?{secret}", headers=sent)
    traced.get(f"/{secret}", headers={"traceparent": f"00-{8:032x}-{8:016x}-01"})
    httpx.request(secret.upper(), f"{traced.url}/v1/models", headers={"traceparent": f"00-{12:032x}-{12:016x}-01"})
    traced.get("/healthz", headers={"traceparent": f"00-{9:032x}-{9:016x}-01"})
    assert only(collector.of(f"{7:032x}", 1), "GET /v1/modules/{name}")
    assert only(collector.of(f"{8:032x}", 1), "GET other")
    assert only(collector.of(f"{12:032x}", 1), "_OTHER /v1/models")
    assert secret.encode() not in collector.raw
    assert secret.upper().encode() not in collector.raw
    assert not [span for span in collector.spans if span.trace == f"{9:032x}"]


def test_who_is_not_to_be_traced_is_not(traced: Server, collector: Collector, start_server: StartServer) -> None:
    traced.post(
        "/v1/chat/completions", json={**QUESTION, "max_tokens": 2}, headers={"traceparent": f"00-{10:032x}-{1:016x}-00"}
    )
    trace, _, _ = ask(traced, 11, max_tokens=2)
    collector.of(trace, 7)
    assert not [span for span in collector.spans if span.trace == f"{10:032x}"]
    few = start_server(**{"tracing.endpoint": collector.url, "tracing.share": 0, "tracing.service": "few"})
    few.post("/v1/chat/completions", json={**QUESTION, "max_tokens": 2})
    collector.of(ask(few, 12, max_tokens=2)[0], 7)
    assert {span.trace for span in collector.spans if span.service == "few"} == {f"{12:032x}"}


def test_lines_of_the_log_carry_the_trace(traced: Server, collector: Collector) -> None:
    given = traced.get("/v1/models").headers["x-request-id"]

    def lines() -> list[str]:
        return [line for line in traced.log().splitlines() if f"request_id={given}" in line and " request " in line]

    assert eventually(lambda: bool(lines())), "it is written after the response"
    (line,) = lines()
    trace = line.partition("trace_id=")[2].split()[0]
    assert only(collector.of(trace, 1), "GET /v1/models").parent == ""


def test_what_is_left_is_sent_at_the_end(shop: Path, collector: Collector) -> None:
    with Server(shop, **{"tracing.endpoint": collector.url}) as server:
        trace, _, _ = ask(server, 13, max_tokens=2)
        server.terminate()
        assert server.end()[0] == 0
    assert len(collector.of(trace, 7, seconds=1)) == 7


def test_a_collector_that_is_gone_costs_nobody_an_answer(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1/traces"
    with Server(shop, **{"tracing.endpoint": url, "log.format": "json"}) as server:
        answer = server.post("/v1/chat/completions", json={**QUESTION, "max_tokens": 2})
        assert answer.status_code == 200
        server.terminate()
        began = time.monotonic()
        code, _, log = server.end()
    assert (code, time.monotonic() - began < 8) == (0, True)
    assert "opentelemetry" in log


def test_an_endpoint_that_is_none(own_shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_TRACING_ENDPOINT", "localhost:4317")
    with pytest.raises(InvalidSetting, match="http:// or https://"):
        open_project(own_shop)


@pytest.mark.slow
def test_nothing_of_opentelemetrys_sdk_is_imported_while_it_is_off(shop: Path) -> None:
    code = (
        "import sys; from quire.project import open_project; from quire.gateway import create_app; "
        f"create_app(open_project({str(shop)!r})); "
        "sys.exit(repr([name for name in sys.modules if name.startswith('opentelemetry.sdk')] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("''"), done.stderr
