"""Who answers a request that names no module, and what is said where nobody does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from quire.registry import Registry
from quire.router import publish_routes
from quire.settings import load_settings

from .conftest import StartServer
from .process import Server, eventually

UNCOVERED = "Who won the cup final?"


def ask(client: OpenAI, text: str, quire: dict[str, Any] | None = None, **options: Any) -> Any:
    return client.chat.completions.create(
        model="quire",
        messages=[{"role": "user", "content": text}],
        extra_body={"quire": quire or {}},
        **({"max_tokens": 2} | options),
    )


def told(answer: Any) -> dict[str, Any]:
    quire: dict[str, Any] = answer.model_extra["quire"]
    return quire


def test_what_is_not_covered_is_said_to_be_so_and_nothing_is_computed(server: Server, client: OpenAI) -> None:
    def computed() -> float:
        return sum(server.metric("quire_tokens_total", kind=kind) for kind in ("prompt", "completion"))

    before, routed = computed(), server.metric("quire_routes_total", stage="fallback")
    answer = ask(client, UNCOVERED, n=2, logprobs=True)
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        assert "not covered" in choice.message.content
        assert told(answer)["reason"] in choice.message.content
        assert choice.logprobs.content == []
    quire = told(answer)
    assert (quire["stage"], quire["module"], quire["version"], quire["confidence"]) == ("fallback", None, None, 0.0)
    assert "no keyword, pattern or condition applies" in quire["reason"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (0, 0)
    assert computed() == before
    assert server.metric("quire_routes_total", stage="fallback") == routed + 1


def test_the_same_as_a_stream_and_as_a_completion(client: OpenAI) -> None:
    whole = ask(client, UNCOVERED).choices[0].message.content
    chunks = list(ask(client, UNCOVERED, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert told(chunks[0])["stage"] == "fallback"
    prompts = ["A bolt of this price", UNCOVERED]
    both = client.completions.create(model="quire", prompt=prompts, max_tokens=2)
    stages = [(choice.model_extra or {})["quire"]["stage"] for choice in both.choices]
    assert stages == ["rule", "fallback"]
    assert both.choices[1].text == whole


def change(shop: Path, old: str, new: str) -> None:
    """Edit the project file and bring its route table into force."""
    file = shop / "quire.toml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    settings = load_settings(file, {})
    with Registry.open(settings.registry_place) as registry:
        assert publish_routes(settings, registry, actor="test", reason="changed").changed


def test_hints_lead_to_a_module(start_server: StartServer, own_shop: Path) -> None:
    declared = 'route = { keywords = ["parcel"], intents = ["track"], metadata = { channel = ["courier", "depot"] } }'
    change(own_shop, 'route = { keywords = ["parcel"] }', declared)
    server = start_server(own_shop)
    with server.openai() as client:
        for quire in ({"intent": "track"}, {"metadata": {"channel": "depot", "colour": "red"}}):
            assert told(ask(client, "bolt", quire))["module"] == "shipping"
            assert told(ask(client, "bolt", quire))["stage"] == "explicit"
        assert told(ask(client, "bolt", {"intent": "greet", "product": "x", "state": "y"}))["module"] == "prices"
    body = {"question": "bolt", "quire": {"intent": "track", "metadata": {"channel": "depot"}}}
    plan = server.post("/v1/routes/explain", json=body).json()
    assert (plan["module"], plan["stage"]) == ("shipping", "explicit")
    assert plan["reason"] == "the request says intent track, metadata channel depot"


@pytest.mark.parametrize(
    ("quire", "param"),
    [
        ({"intent": ""}, "quire.intent"),
        ({"metadata": {"channel": 3}}, "quire.metadata.channel"),
        ({"metadata": {str(i): "x" for i in range(33)}}, "quire.metadata"),
        ({"workflow": "x"}, "quire.workflow"),
    ],
)
def test_a_wrong_hint_is_named(server: Server, quire: dict[str, Any], param: str) -> None:
    for path, body in (
        ("/v1/routes/explain", {"question": "?"}),
        ("/v1/completions", {"model": "quire", "prompt": "?"}),
    ):
        refused = server.post(path, content=json.dumps({**body, "quire": quire}), headers=JSON)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


JSON = {"content-type": "application/json"}


def test_a_project_may_refuse_what_is_not_covered(start_server: StartServer, own_shop: Path) -> None:
    change(own_shop, "[model]", "[routing]\nfallback = false\n[model]")
    server = start_server(own_shop)
    body = {"model": "quire", "messages": [{"role": "user", "content": UNCOVERED}]}
    for stream in (False, True):
        refused = server.post("/v1/chat/completions", json={**body, "stream": stream})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_route")


def test_a_running_server_follows_the_table_and_its_rollback(start_server: StartServer, own_shop: Path) -> None:
    server = start_server(own_shop)

    def goes_to() -> str:
        return str(server.post("/v1/routes/explain", json={"question": "a pallet"}).json()["module"])

    before = goes_to()
    change(own_shop, 'keywords = ["parcel"]', 'keywords = ["parcel", "pallet"]')
    assert before != "shipping"
    assert eventually(lambda: goes_to() == "shipping")
    with Registry.open(load_settings(own_shop / "quire.toml", {}).registry_place) as registry:
        registry.routes.rollback(actor="test", reason="too soon")
    assert eventually(lambda: goes_to() == before)
