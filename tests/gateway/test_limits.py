"""What a caller sees of its limits: the headers on every answer, and a refusal that a client understands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from openai import RateLimitError

from quire import open_project
from quire.gateway.rates import span

from .conftest import StartServer
from .process import Server, eventually

ASK: list[Any] = [{"role": "user", "content": "What does a bolt cost?"}]
QUESTION: dict[str, Any] = {"model": "quire", "messages": ASK, "max_tokens": 4, "ignore_eos": True}


def limited(shop: Path, start: StartServer, **limits: int) -> Server:
    file = shop / "quire.toml"
    lines = "\n".join(f"{name} = {value}" for name, value in limits.items())
    text = file.read_text(encoding="utf-8").partition("[limits.default]")[0]
    file.write_text(f"{text}\n[limits.default]\n{lines}\n", encoding="utf-8")
    return start(shop)


def test_without_limits_nothing_is_said_of_them(server: Server) -> None:
    answer = server.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_rates_are_counted_down_and_refused_as_openai_does(own_shop: Path, start_server: StartServer) -> None:
    server = limited(own_shop, start_server, requests_per_minute=3, tokens_per_minute=100_000)
    first = server.post("/v1/chat/completions", json=QUESTION)
    usage = first.json()["usage"]
    computed = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] + usage["completion_tokens"]
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("3", "2")
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    assert 100_000 - computed - 60 <= int(first.headers["x-ratelimit-remaining-tokens"]) <= 100_000
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    with server.openai() as client:
        raw = client.chat.completions.with_raw_response.create(model="quire", messages=ASK, max_tokens=4, stream=True)
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        for _ in raw.parse():
            pass
        client.completions.create(model="quire/prices", prompt="A bolt", max_tokens=2)
        with pytest.raises(RateLimitError) as refused:
            client.chat.completions.create(model="quire", messages=ASK)
    body = refused.value.response.json()["error"]
    assert (body["type"], body["code"]) == ("rate_limit_exceeded", "rate_limit_exceeded")
    assert "3 requests per minute" in body["message"]
    headers = refused.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 20
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert server.get("/v1/modules").status_code == 200, "only answers are limited"
    assert server.metric("quire_errors_total", code="rate_limit_exceeded") == 1


def used_this_month(shop: Path) -> int:
    with open_project(shop) as project:
        return sum(project.registry.use.all(f"{datetime.now(UTC):%Y-%m}").values())


def test_a_months_budget_is_kept_over_a_restart(own_shop: Path, start_server: StartServer) -> None:
    before = used_this_month(own_shop)
    server = limited(own_shop, start_server, monthly_tokens=before + 90)
    first = server.post("/v1/chat/completions", json=QUESTION)
    assert first.status_code == 200
    server.terminate()
    server.end()
    usage = first.json()["usage"]
    used = used_this_month(own_shop)
    assert used - before == usage["total_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    server = limited(own_shop, start_server, monthly_tokens=used + 5)
    refused = server.post("/v1/chat/completions", json=QUESTION)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == refused.json()["error"]["code"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert 1 <= int(refused.headers["retry-after"]) <= 31 * 86_400


def test_requests_at_once_are_limited_and_a_place_is_free_again(own_shop: Path, start_server: StartServer) -> None:
    server = limited(own_shop, start_server, concurrent_requests=1)
    with server.openai() as client:
        long = client.chat.completions.create(
            model="quire", messages=ASK, max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(long))
        refused = server.post("/v1/chat/completions", json=QUESTION)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        long.close()
    for _ in range(200):
        if server.post("/v1/chat/completions", json=QUESTION).status_code == 200:
            break
    else:
        pytest.fail("the place of a caller that went away is never free again")
    assert [server.post("/v1/chat/completions", json=QUESTION).status_code for _ in range(3)] == [200] * 3
    wrong = server.post("/v1/chat/completions", json={**QUESTION, "quire": {"module": "nothing-such"}})
    assert wrong.status_code == 404
    assert server.post("/v1/chat/completions", json=QUESTION).status_code == 200, "nor one that was refused"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0, "0ms"), (0.0123, "13ms"), (1, "1s"), (59.2, "1m0s"), (61, "1m1s"), (360, "6m0s")]
)
def test_spans_are_written_as_openai_does(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_who_finds_the_queue_full_is_refused_before_anything_is_done_for_it(start_server: StartServer) -> None:
    server = start_server(**{"engine.max_sequences": 1, "engine.queue": 1})
    long = {**QUESTION, "max_tokens": 1500}
    with ThreadPoolExecutor(2) as others:
        answers = [others.submit(server.post, "/v1/chat/completions", json=long)]
        assert eventually(lambda: server.metric("quire_answers_running") == 1)
        answers.append(others.submit(server.post, "/v1/chat/completions", json=long))
        assert eventually(lambda: server.metric("quire_answers_waiting") == 1)
        refused = server.post("/v1/chat/completions", json={**QUESTION, "quire": {"module": "no-such"}})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "engine_busy")
        assert "retry-after" in refused.headers
        assert [answer.result().status_code for answer in answers] == [200, 200]
