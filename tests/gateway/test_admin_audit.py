"""Auditors read what was done in their tenant, and nothing else shows, not even how much there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .process import Server, eventually
from .two_tenants import TwoTenants

Read = Callable[..., httpx.Response]


@pytest.fixture
def read(tenants: TwoTenants, tenants_server: Server) -> Read:
    def get(who: str, **parameters: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {tenants.keys[who]}"}
        return tenants_server.get("/v1/admin/audit", params=parameters, headers=headers)

    return get


def ask(server: Server, key: str, module: str) -> int:
    body = {"model": "quire", "messages": [{"role": "user", "content": "secret?"}], "max_tokens": 1}
    headers = {"authorization": f"Bearer {key}"}
    answer = server.post("/v1/chat/completions", json={**body, "quire": {"module": module}}, headers=headers)
    return answer.status_code


def test_who_asked_what_and_was_denied_is_there_for_the_auditors_of_the_tenant(
    tenants: TwoTenants, tenants_server: Server, read: Read
) -> None:
    assert ask(tenants_server, tenants.keys["bob"], "prices") == 200
    assert ask(tenants_server, tenants.keys["bob"], "plans") == 404
    assert ask(tenants_server, tenants.keys["globex"], "plans") == 200
    for _ in range(100):
        records = read("auditor").json()["data"]
        if {"route.decision", "access.denied"} <= {r["kind"] for r in records}:
            break
        time.sleep(0.05)
    assert {r["tenant"] for r in records} == {"acme"}
    (denied,) = [r for r in records if r["kind"] == "access.denied"]
    assert (denied["who"].split(":")[0], "plans" in denied["what"]) == ("acme/bob", True)
    decided = [r for r in records if r["kind"] == "route.decision"]
    assert [(r["who"], r["module"]) for r in decided] == [("acme/bob", "prices")]
    assert "secret" not in str(records)
    assert {r[name] for r in records for name in ("sequence", "hash", "previous", "generation")} == {None}
    assert read("eve").json()["data"][0]["sequence"] is None, "an admin audits too"
    for other in ("globex admin",):
        assert {r["tenant"] for r in read(other).json()["data"]} == {"globex"}
    everything = read("operator", limit=1000).json()["data"]
    assert {"acme", "globex"} <= {r["tenant"] for r in everything}
    assert [r["sequence"] for r in everything] == list(range(len(everything), 0, -1))


@pytest.mark.parametrize("who", ["ann", "bob", "publisher", "globex", "monitor"])
def test_nobody_else_may(read: Read, who: str) -> None:
    assert read(who).status_code == 403


def test_another_tenants_log_is_not_to_be_had(read: Read) -> None:
    assert read("auditor", tenant="acme").status_code == 200
    refused = [read("auditor", tenant=name) for name in ("globex", "nothing-such", "")]
    assert {r.status_code for r in refused} == {403}
    assert read("operator", tenant="nothing-such").json()["data"] == []


def test_records_are_chosen_by_parameters(read: Read) -> None:
    modules = read("operator", kind="module", limit=1000).json()["data"]
    assert {r["kind"].split(".")[0] for r in modules} == {"module"}
    assert read("operator", module="prices", kind="module.publish").json()["data"][0]["module"] == "prices"
    assert read("operator", until="7d").json()["data"] == []
    first = read("operator", limit=1).json()
    assert (len(first["data"]), first["has_more"]) == (1, True)
    for wrong in ({"limit": "0"}, {"limit": "x"}, {"kind": "nothing"}, {"since": "yesterday"}, {"page": "2"}):
        answer = read("operator", **wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), wrong


def test_several_answers_to_a_question_are_one_decision(
    tenants: TwoTenants, tenants_server: Server, read: Read
) -> None:
    before = len(read("auditor", kind="route.decision").json()["data"])
    body = {"model": "quire", "messages": [{"role": "user", "content": "secret?"}], "max_tokens": 1, "n": 4}
    headers = {"authorization": f"Bearer {tenants.keys['bob']}"}
    answer = tenants_server.post("/v1/chat/completions", json={**body, "quire": {"module": "prices"}}, headers=headers)
    assert len(answer.json()["choices"]) == 4
    assert ask(tenants_server, tenants.keys["bob"], "prices") == 200
    assert eventually(lambda: len(read("auditor", kind="route.decision").json()["data"]) >= before + 2)
    assert len(read("auditor", kind="route.decision").json()["data"]) == before + 2
