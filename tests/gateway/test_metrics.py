"""/metrics has the figures of docs/metrics.md, they are right, and they name nobody and nothing that is private."""

from __future__ import annotations

import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from quire import __version__, open_project
from quire.errors import RegistryUnreachable
from quire.gateway.counting import Counted, LastCounts
from quire.gateway.figures import FIGURES
from quire.registry.counting import Counts

from .conftest import StartServer
from .process import Server, eventually
from .two_tenants import SETTINGS, build

QUESTION = {"model": "quire", "messages": [{"role": "user", "content": "What does a bolt cost?"}], "ignore_eos": True}


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Values by sample name and labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_the_figures_are_those_of_the_table(server: Server) -> None:
    lines = [line.split() for line in server.get("/metrics").text.splitlines() if line.startswith("# TYPE")]
    shown = {name: kind for _, _, name, kind in lines if not name.endswith("_created")}
    assert shown == {figure.name: figure.kind for figure in FIGURES}


def test_what_pages_and_alerts_ask_for_exists() -> None:
    docs = Path(__file__).parents[2] / "docs"
    rules = yaml.safe_load((docs / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    asked = [rule["expr"] for rule in rules]
    asked += re.findall(r"`([^`]*quire_[^`]*)`", (docs / "operating.md").read_text(encoding="utf-8"))
    suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}
    samples = {figure.name + suffix for figure in FIGURES for suffix in suffixes[figure.kind]}
    named = {name for text in asked for name in re.findall(r"\bquire_\w+", text)}
    assert len(named) > 10
    assert named <= samples | {figure.name for figure in FIGURES}


def test_counts_that_do_not_come_are_those_of_before_with_their_age() -> None:
    counts, answering, gone = Counts(1, {}, 0, {}, 0, {}, 0, 0), threading.Event(), threading.Event()

    def count() -> Counts:
        answering.wait(5)
        if gone.is_set():
            raise RegistryUnreachable("of this test")
        return counts

    last = LastCounts(count)
    assert last.newest(0.01) == Counted(None, None, is_up=False)
    answering.set()
    assert eventually(lambda: last.newest(1).is_up)
    answering.clear()
    began = time.monotonic()
    first = last.newest(0.5)
    asked = time.monotonic()
    second = last.newest(0.5)
    assert time.monotonic() - asked < 0.4, "who comes while it hangs does not wait again"
    assert asked - began < 5
    assert (first.counts, first.is_up, second.counts, second.is_up) == (counts, True, counts, True)
    assert first.age
    assert second.age
    assert second.age > first.age
    gone.set()
    answering.set()
    assert eventually(lambda: not last.newest(1).is_up)
    assert last.newest(1).counts == counts
    gone.clear()
    assert eventually(lambda: last.newest(1).is_up)


def test_what_answers_cost_is_counted(own_shop: Path, start_server: StartServer) -> None:
    server = start_server(own_shop)
    began = time.perf_counter()
    body = {**QUESTION, "max_tokens": 12}
    for more in ({}, {"stream": True}, {"n": 3, "temperature": 1.0}):
        assert server.post("/v1/chat/completions", json=body | more).status_code == 200
    seconds = time.perf_counter() - began
    assert eventually(lambda: server.metric("quire_answer_seconds_count") == 3)
    asked = {"route": "/v1/chat/completions"}
    assert server.metric("quire_http_requests_total", status="200", **asked) == 3
    assert server.metric("quire_tokens_total", kind="completion") == 5 * 12
    for name, count in (("answer", 3), ("first_token", 5), ("queue", 5), ("prefill", 5)):
        assert server.metric(f"quire_{name}_seconds_count") == count, name
    assert server.metric("quire_http_request_seconds_count", **asked) == 3
    assert (
        0 < server.metric("quire_prefill_seconds_sum") <= 3 * server.metric("quire_answer_seconds_sum") <= 3 * seconds
    )
    assert server.metric("quire_restore_seconds_count", tier="cold") == 1
    assert server.metric("quire_restore_seconds_count", tier="warm") == 2
    live = {one["module"]: one["bytes"] for one in server.get("/v1/modules").json()["data"]}
    assert server.metric("quire_restored_bytes_total", tier="cold") == live["prices"] + live["company"]
    found = samples(server.get("/metrics").text)
    widths = [value for _, value in sorted(found["quire_batch_requests_bucket"].items(), key=lambda one: one[1])]
    assert widths == sorted(widths)
    assert widths[-1] == server.metric("quire_batch_requests_count") > 3
    assert server.metric("quire_batch_requests_sum") > widths[-1], "three answers shared their steps"
    computed = server.metric("quire_tokens_total", kind="prompt") - server.metric("quire_tokens_total", kind="cached")
    assert server.metric("quire_step_tokens_total") >= computed
    assert 0 < server.metric("quire_step_seconds_total") < seconds
    (info,) = found["quire_build_info"]
    assert dict(info)["version"] == __version__


def test_what_comes_from_the_object_store_is_told_apart(
    own_shop: Path, tmp_path: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (tmp_path / "shared").as_uri()
    monkeypatch.setenv("QUIRE_STORE_URL", url)
    with open_project(own_shop) as project:
        project.share(project.registry.all_live())
        artifacts = project.store.locate(project.registry.live("company").digest).parent
    shutil.rmtree(artifacts)
    server = start_server(own_shop, **{"store.url": url})
    body = {**QUESTION, "max_tokens": 2}
    tiers = [server.post("/v1/chat/completions", json=body).json()["quire"]["tier"] for _ in range(2)]
    assert tiers == ["remote", "warm"]
    assert server.metric("quire_restore_seconds_count", tier="remote") == 1
    assert server.metric("quire_restored_bytes_total", tier="remote") > 0
    again = start_server(own_shop, **{"store.url": url})
    assert again.post("/v1/chat/completions", json=body).json()["quire"]["tier"] == "cold"


def test_conversations_take_room(own_shop: Path, start_server: StartServer) -> None:
    server = start_server(own_shop)
    assert (server.metric("quire_sessions"), server.metric("quire_room_used_tokens")) == (0, 0)
    body = {**QUESTION, "max_tokens": 4, "quire": {"session": "one"}}
    assert server.post("/v1/chat/completions", json=body).status_code == 200
    assert eventually(lambda: server.metric("quire_sessions") == 1)
    assert server.metric("quire_session_bytes") > 0
    assert 0 < server.metric("quire_room_used_tokens") < server.metric("quire_room_tokens")


def test_what_the_registry_holds(own_shop: Path, start_server: StartServer) -> None:
    server = start_server(own_shop)
    version = server.get("/v1/modules/prices").json()["version"]
    assert server.metric("quire_module_versions", state="live") == 3
    generation = server.metric("quire_registry_generation")
    published = server.metric("quire_changes_total", kind="module.publish")
    assert published >= 3
    assert server.post("/v1/admin/modules/prices/retire", json={"reason": "to count"}).status_code == 200
    assert server.metric("quire_module_versions", state="retired") == 1
    body = {"version": version, "reason": "to count"}
    assert server.post("/v1/admin/modules/prices/publish", json=body).status_code == 200
    assert server.metric("quire_changes_total", kind="module.publish") == published + 1
    assert server.metric("quire_registry_generation") == generation + 2
    assert eventually(lambda: server.metric("quire_registry_applied_generation") == generation + 2)
    assert 0 <= server.metric("quire_registry_seen_seconds") < 60
    assert (server.metric("quire_registry_up"), server.metric("quire_modules_expired")) == (1, 0)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ("requests_per_minute = 1", "requests_per_minute"),
        ("tokens_per_minute = 60", "tokens_per_minute"),
        ("monthly_tokens = 10", "monthly_tokens"),
    ],
)
def test_refusals_are_counted_by_limit(own_shop: Path, start_server: StartServer, limits: str, limit: str) -> None:
    with (own_shop / "quire.toml").open("a", encoding="utf-8") as file:
        file.write(f"[limits.default]\n{limits}\n")
    server = start_server(own_shop)
    codes = [server.post("/v1/chat/completions", json={**QUESTION, "max_tokens": 20}).status_code for _ in range(4)]
    assert server.metric("quire_limit_refusals_total", limit=limit) == codes.count(429) > 0


def test_no_label_names_anybody_or_anything_private(tmp_path: Path, tiny_model_dir: Path) -> None:
    tenants = build(tmp_path / "project", tiny_model_dir)
    with Server(tenants.root, **SETTINGS) as server:
        for key in tenants.keys.values():
            headers = {"authorization": f"Bearer {key}"}
            listed = server.get("/v1/modules", headers=headers).json()["data"]
            for name in (*(one["module"] for one in listed), "no-such-module"):
                body: dict[str, Any] = {**QUESTION, "max_tokens": 2, "quire": {"module": name}}
                server.post("/v1/chat/completions", json=body, headers=headers)
                server.get(f"/v1/modules/{name}", headers=headers)
        operator = {"authorization": f"Bearer {tenants.keys['operator']}"}
        text = server.get("/metrics", headers=operator).text
        names = {one["module"] for one in server.get("/v1/modules", headers=operator).json()["data"]}
    labels = {value for values in samples(text).values() for pairs in values for _, value in pairs}
    assert len(names) > 3
    for private in (*names, "acme", "globex", "ann", "bob", "no-such-module"):
        assert not [label for label in labels if private in re.findall(r"[\w-]+", label)], private
