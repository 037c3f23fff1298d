"""What is refused, and how the official client shows it."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from quire.errors import RegistryUnreachable
from quire.gateway.addresses import host_named
from quire.gateway.error_bodies import error_body
from quire.registry import MADE, NOT_MADE, UNKNOWN, telling

from .process import Server

USER = {"role": "user", "content": "What does a bolt cost?"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://norrvik.example/bolt.png"}}

BAD_CHATS: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"extra_body": {"logits_processors": ["x"]}}, "logits_processors"),
    ({"extra_body": {"guided_json": {}}}, "guided_json"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": []}, "messages"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"logit_bias": {"bolt": 1}}, "logit_bias"),
    ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": 4, "max_completion_tokens": 5}, "max_completion_tokens"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
    ({"seed": 2**64}, "seed"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"extra_body": {"quire": {"purpose": "refund"}}}, "quire.purpose"),
    ({"extra_body": {"quire": {"module": "Not A Name"}}}, "quire.module"),
    ({"n": 2, "extra_body": {"quire": {"session": "s"}}}, "n"),
    ({"model": "quire/company", "extra_body": {"quire": {"module": "prices"}}}, "quire.module"),
]


def chat(client: OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "quire", "max_tokens": 4, "messages": [USER], **options})


def body_of(error: openai.APIError) -> dict[str, Any]:
    assert isinstance(error.body, dict)
    return error.body


@pytest.mark.parametrize(("options", "param"), BAD_CHATS)
def test_a_bad_request_names_the_field(client: OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **options)
    body = body_of(caught.value)
    assert (body["type"], body["code"]) == ("invalid_request_error", "invalid_request")
    assert body["param"] is not None
    assert body["param"].startswith(param)
    assert "Hint: " in body["message"]
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 5, "n": 4}, "prompt"),
        ({"logprobs": 21}, "logprobs"),
    ],
)
def test_a_bad_completion_names_the_field(client: OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "quire/prices", "prompt": "A bolt", **options})
    assert body_of(caught.value)["param"].startswith(param)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found"),
        ({"model": "quire/"}, openai.NotFoundError, "model_not_found"),
        ({"model": "quire/nothing"}, openai.NotFoundError, "module_unknown"),
        ({"extra_body": {"quire": {"module": "prices@ffffff"}}}, openai.NotFoundError, "version_unknown"),
        ({"messages": [USER, USER]}, openai.BadRequestError, "invalid_request"),
        ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError, "invalid_request"),
        ({"max_tokens": 2048}, openai.BadRequestError, "context_length_exceeded"),
        (
            {"messages": [{"role": "user", "content": "bolt " * 3000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
    ],
)
def test_a_refusal_has_the_same_status_with_and_without_a_stream(
    client: OpenAI, stream: bool, options: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        chat(client, stream=stream, **options)
    assert body_of(caught.value)["code"] == code


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"model": "quire", "temperature": NaN}', "not valid JSON"),
        (b'{"model": "\xff"}', "not valid JSON"),
        (b'{"model": "\\ud800"}', "not valid JSON"),
        (b"[" * 10_000, "nested too deep"),
        (b"[" * 100_000, "at most 16,384 values"),
        (b"[]", "must be a JSON object, found a list"),
        (b"{}", "model is missing"),
        (
            b'{"model": "quire", "messages": [{"role": "user", "content": "x"}], "n": ' + b"9" * 4400 + b"}",
            "not valid JSON",
        ),
        (b'{"model": "quire", "messages": [{"role": "user", "content": "x"}], "n": ' + b"9" * 4000 + b"}", "n: must"),
    ],
)
def test_a_body_that_is_no_request(server: Server, content: bytes, said: str) -> None:
    response = server.post(
        "/v1/chat/completions", content=content, headers={"content-type": "application/json; charset=utf-8"}
    )
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


def test_a_form_of_a_web_page_is_not_taken(server: Server) -> None:
    response = server.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert response.status_code == 400
    assert "expected the content type application/json, found text/plain" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "{x.attacker.example:8000",
        "attacker.example:999999",
        "a`b.attacker.example",
        "",
        "[::1",
        "a b",
    ],
)
def test_a_host_name_that_a_web_page_made_up_is_not_taken(server: Server, host: str) -> None:
    response = server.get("/v1/modules", headers={"host": host})
    assert response.status_code == 400
    assert "Host header" in response.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "quire.localhost"])
def test_this_machine_is_called_by_any_of_its_own_names(server: Server, host: str) -> None:
    assert server.get("/v1/modules", headers={"host": host}).status_code == 200


def test_of_two_host_names_none_is_taken() -> None:
    assert host_named(["localhost"]) == "localhost"
    assert host_named(["localhost", "attacker.example"]) == host_named([]) == ""


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_above_the_limit(server: Server, declared: bool) -> None:
    content = b" " * ((4 << 20) + 1)
    response = server.post(
        "/v1/chat/completions",
        content=content if declared else iter([content[:1000], content[1000:]]),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/embeddings", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/gpt-4", 404, "model_not_found"),
        ("GET", "/v1/modules/nothing", 404, "module_unknown"),
        ("GET", "/v1/modules/No%20Name", 404, "module_unknown"),
        ("GET", "/v1/modules/prices@ffff", 404, "version_unknown"),
    ],
)
def test_paths_that_are_not_there(server: Server, method: str, path: str, status: int, code: str) -> None:
    response = httpx.request(method, server.url + path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert len(response.headers.get_list("allow")) == (status == 405)


def test_a_change_that_failed_says_whether_it_was_made_and_nothing_of_the_server() -> None:
    said = {}
    for outcome in (NOT_MADE, UNKNOWN, MADE):
        with pytest.raises(RegistryUnreachable) as refused, telling(NOT_MADE), telling(outcome):
            raise RegistryUnreachable("the registry postgresql://db.internal/quire cannot be reached")
        said[outcome] = error_body(refused.value)["error"]["message"]
        assert str(refused.value).endswith(f"cannot be reached; {outcome}"), "what was said first stays"
    assert all(f"the registry cannot be reached; {outcome}." in text for outcome, text in said.items())
    assert "db.internal" not in "".join(said.values())
    assert "change" not in error_body(RegistryUnreachable("of a read"))["error"]["message"]
