"""What the server logs about requests: what operators need, and nothing that was asked, answered or sent as a key."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from quire import open_project
from quire.access import LOCAL

from .conftest import StartServer
from .process import Server, eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def events(server: Server, name: str = "request") -> list[dict[str, Any]]:
    return [event for line in server.log().splitlines() if (event := json.loads(line))["event"] == name]


def of(server: Server, request_id: str) -> dict[str, Any]:
    """The line about a request. It is written after the response, so it may take a moment."""

    def found() -> list[dict[str, Any]]:
        return [event for event in events(server) if event["request_id"] == request_id]

    assert eventually(lambda: bool(found()))
    (event,) = found()
    return event


@pytest.fixture
def locked_shop(own_shop: Path) -> tuple[Path, str]:
    """A shop that asks for keys, and one."""
    with open_project(own_shop) as project:
        _, key = project.access.keys.create(LOCAL, "for the test", tenant="acme", user="ann")
    return own_shop, key


def test_a_line_says_what_became_of_a_request_and_no_word_of_it(
    locked_shop: tuple[Path, str], start_server: StartServer
) -> None:
    root, key = locked_shop
    server = start_server(root, **{"access.keys": "true", "log.format": "json", "log.level": "debug"})
    secret = f"secret{os.urandom(4).hex()}"
    body = {
        "model": "quire",
        "messages": [{"role": "user", "content": f"What does a bolt cost, {secret}?"}],
        "max_tokens": 8,
        "ignore_eos": True,
        "stop": [secret],
        "user": secret,
        "quire": {"session": secret, "metadata": {"plan": secret}},
    }
    headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    answers: list[str] = []

    def ask(request_id: str, **changed: Any) -> None:
        sent = headers | {"x-request-id": request_id}
        answers.append(server.post("/v1/chat/completions", json=body | changed, headers=sent).text)

    ask("whole")
    ask("streamed", stream=True)
    ask("refused", temperature=secret)
    ask("unknown-module", quire={"module": secret})
    strange: dict[str, Any] = {"x-request-id": "stranger", "authorization": f"Bearer {secret}"}
    server.post("/v1/chat/completions", content=secret, headers=strange)
    server.get(f"/v1/modules/{secret}?{secret}={secret}", headers=headers | {"x-request-id": "path"})
    server.get(f"/{secret}", headers=headers | {"x-request-id": "nowhere"})

    whole = of(server, "whole")
    module = json.loads(answers[0])["quire"]
    assert whole["module"] == f"prices@{module['version']}"
    assert (whole["route"], whole["status"], whole["tenant"]) == ("/v1/chat/completions", 200, "acme")
    assert (whole["stage"], whole["tier"], whole["trace_id"]) == ("rule", "cold", TRACE)
    assert (whole["completion_tokens"], whole["finish"], whole["answers"]) == (8, "length", 1)
    assert 0 < whole["restore_seconds"] < whole["first_token_seconds"] < whole["seconds"]
    streamed = of(server, "streamed")
    assert {name: streamed[name] for name in ("status", "module", "completion_tokens")} == {
        "status": 200,
        "module": whole["module"],
        "completion_tokens": 8,
    }
    assert (of(server, "refused")["error"], of(server, "refused")["status"]) == ("invalid_request", 400)
    assert (of(server, "unknown-module")["error"], of(server, "unknown-module")["status"]) == ("module_unknown", 404)
    assert (of(server, "stranger")["error"], "tenant" in of(server, "stranger")) == ("invalid_api_key", False)
    assert of(server, "path")["route"] == "/v1/modules/{name}"
    assert of(server, "nowhere")["route"] == "other"
    said = [json.loads(answers[0])["choices"][0]["message"]["content"]]
    text = server.log()
    for hidden in (secret, key, "bolt cost", *(word for word in said if len(word) > 5)):
        assert hidden not in text


def test_a_readable_line(start_server: StartServer) -> None:
    server = start_server()
    server.get("/v1/models", headers={"x-request-id": "readable"})
    wanted = (
        r"Z info quire\.gateway\.passage request request_id=readable method=GET route=/v1/models status=200 seconds="
    )
    assert eventually(lambda: re.search(wanted, server.log()) is not None)
    assert "route=/readyz" not in server.log(), "probes that succeed are for the level debug"


@pytest.mark.parametrize("brought", ["abc", "0f8fad5b-d9cb-469f-a165-70867728950e", "A.b_c-9", "x" * 128])
def test_a_request_keeps_the_id_it_brings(server: Server, brought: str) -> None:
    assert server.get("/healthz", headers={"x-request-id": brought}).headers["x-request-id"] == brought


@pytest.mark.parametrize("brought", ["", "a b", "x" * 129, "a=b", "\u00e9", 'a"b', "req;rm"])
def test_an_id_that_cannot_be_one_is_replaced(server: Server, brought: str) -> None:
    sent = {b"x-request-id": brought.encode("latin-1")}
    given = httpx.get(f"{server.url}/healthz", headers=sent).headers["x-request-id"]
    assert re.fullmatch("req_[0-9a-f]{32}", given)


def test_of_two_ids_none_is_taken(server: Server) -> None:
    two = [("x-request-id", "one"), ("x-request-id", "two")]
    assert httpx.get(f"{server.url}/healthz", headers=two).headers["x-request-id"] not in {"one", "two", "one, two"}


def test_keys_of_tokens_that_cannot_be_had_are_told_at_the_start(own_shop: Path, start_server: StartServer) -> None:
    settings = {"access.issuer": "https://issuer.example", "access.audience": "quire", "access.jwks": "missing.json"}
    server = start_server(own_shop, **settings, **{"log.format": "json"})
    (warned,) = events(server, "tokens cannot be checked")
    assert warned["level"] == "warning"
    assert "missing.json" in warned["why"]
