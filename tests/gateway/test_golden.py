"""Publishing through the admin API: what was not asked is asked first, and what is red stays out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from quire import open_project
from quire.compiler import run_build
from quire.errors import GoldenNotRun
from quire.project import Silent

from .process import Server, eventually

IMPOSSIBLE, CERTAIN = {"contains": "\N{SNOWMAN}"}, {"not_contains": "\N{SNOWMAN}"}


def candidate(root: Path, text: str, expected: dict[str, str]) -> str:
    """A version of `prices` that was compiled and not asked yet."""
    (root / "golden").mkdir(exist_ok=True)
    golden = [{"question": "What?", **expected, "max_tokens": 8}]
    (root / "golden" / "prices.yaml").write_text(json.dumps(golden))
    (root / "prices.md").write_text(text)
    with open_project(root) as project:
        plans = project.plan(["prices"])
        with pytest.raises(GoldenNotRun):
            run_build(plans, lambda: project.model, project.registry, project.store, Silent(), actor="test")
    return plans[-1].version


def test_a_version_is_asked_before_it_is_published(own_shop: Path, start_server: Callable[..., Server]) -> None:
    with open_project(own_shop) as project:
        live = project.registry.live("prices").version
    wrong = candidate(own_shop, "A bolt costs 900 pounds.", IMPOSSIBLE)
    green = candidate(own_shop, "A bolt costs 4 pounds.", CERTAIN)
    server = start_server(own_shop)

    def publish(version: str) -> httpx.Response:
        return server.post("/v1/admin/modules/prices/publish", json={"version": version, "reason": "because"})

    refused = publish(wrong)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "golden_failed")
    assert "'What?': expected: contains" in refused.json()["error"]["message"]
    assert server.get("/v1/modules/prices").json()["version"] == live
    shown = server.get(f"/v1/modules/prices@{wrong}").json()["golden"]
    assert (shown["state"], shown["questions"], len(shown["verdicts"])) == ("red", 1, 1)
    assert server.get(f"/v1/modules/prices@{green}").json()["golden"]["state"] == "not run"
    assert publish(green).json()["state"] == "live"
    assert server.get("/v1/modules/prices").json()["golden"]["state"] == "green"
    assert server.get("/v1/modules/company").json()["golden"] is None


def test_a_canary_over_http(own_shop: Path, start_server: Callable[..., Server]) -> None:
    green = candidate(own_shop, "A bolt costs 4 pounds.", CERTAIN)
    server, path = start_server(own_shop), "/v1/admin/modules/prices/canary"
    assert server.get(path).json()["error"]["code"] == "no_canary"
    assert server.post(path, json={"version": green, "reason": "because"}).status_code == 400
    begin = {"version": green, "percent": 50, "shadow": True, "reason": "because"}
    begun = server.post(path, json=begin)
    assert (begun.status_code, begun.json()["percent"], begun.json()["ended"]) == (201, 50, None)
    again = server.post(path, json=begin)
    assert (again.status_code, again.json()["error"]["code"]) == (
        409,
        "canary_running",
    )
    live, arms = server.get("/v1/modules/prices").json()["version"], []
    for number in range(20):
        asked = {"messages": [{"role": "user", "content": "What?"}], "max_tokens": 2, "model": "quire"}
        hints = {"module": "prices", "session": f"s{number}"}
        answer = server.post("/v1/chat/completions", json={**asked, "quire": hints}).json()
        assert "quire" in answer, answer
        arms.append(answer["quire"]["arm"])
        assert answer["quire"]["version"] == (green if arms[-1] == "candidate" else live)
    assert set(arms) == {"live", "candidate"}
    assert eventually(lambda: sum(arm["requests"] for arm in server.get(path).json()["arms"].values()) >= 20)
    assert eventually(lambda: server.metric("quire_canary_requests_total", arm="live", result="answers") > 0)
    took = arms.count("candidate")
    assert server.metric("quire_canary_requests_total", arm="candidate", result="answers") == took
    assert server.metric("quire_canary_answer_seconds_count", arm="candidate") == took
    assert server.metric("quire_canary_answer_seconds_bucket", arm="candidate", le="+Inf") == took
    assert server.metric("quire_canary_tokens_total", arm="candidate") == 2 * took
    assert server.get(path).json()["arms"]["candidate"]["tokens_per_answer"] == 2
    ended = server.post(f"{path}/stop", json={"reason": "seen enough"}).json()
    assert (ended["ended"], ended["version"]) == ("seen enough", green)
    assert server.post(f"{path}/stop", json={"reason": "again"}).status_code == 404
