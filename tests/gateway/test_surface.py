"""Models, modules, routes, health and metrics."""

from __future__ import annotations

from pathlib import Path

from openai import OpenAI

from quire import Turn, open_project

from .process import Server

QUESTION = "What does a bolt cost?"


def test_models_and_their_aliases(client: OpenAI, tiny_model_dir: Path) -> None:
    names = [model.id for model in client.models.list()]
    assert names == [tiny_model_dir.name, "quire", "quire/company", "quire/prices", "quire/shipping"]
    for name in names:
        assert client.models.retrieve(name).id == name


def test_modules(server: Server, shop: Path) -> None:
    listed = server.get("/v1/modules").json()["data"]
    assert [m["module"] for m in listed] == ["company", "prices", "shipping"]
    with open_project(shop) as project:
        record = project.registry.live("prices")
        chain = [str(link.ref) for link in project.registry.chain(record)]
    one = server.get("/v1/modules/prices").json()
    versions = [{"version": record.version, "state": "live"}]
    assert one == {**listed[1], "chain": chain, "versions": versions, "golden": None}
    assert (one["version"], one["digest"], one["tokens"]) == (record.version, record.digest, record.token_count)
    assert one["parent"] == chain[0]
    assert server.get(f"/v1/modules/prices@{record.version[:6]}").json() == one


def test_a_route_is_explained_as_it_is_taken(server: Server, client: OpenAI) -> None:
    body = {"question": "Does the parcel hold a bolt of this price?"}
    explained = server.post("/v1/routes/explain", json=body).json()
    assert explained["module"] == "prices"
    assert [(c["module"], c["stage"]) for c in explained["candidates"]] == [("prices", "rule"), ("shipping", "rule")]
    assert explained["passed"] == ["explicit: the request gives no hint"]
    assert "keyword 'bolt'" in explained["reason"]
    answer = client.chat.completions.create(
        model="quire", max_tokens=1, messages=[{"role": "user", "content": body["question"]}]
    )
    taken = (answer.model_extra or {})["quire"]
    assert {k: taken[k] for k in ("module", "version", "digest", "stage", "reason", "confidence")} == {
        k: explained[k] for k in ("module", "version", "digest", "stage", "reason", "confidence")
    }
    named = server.post("/v1/routes/explain", json={**body, "quire": {"module": "shipping"}}).json()
    assert (named["module"], named["stage"]) == ("shipping", "explicit")
    nobody = server.post("/v1/routes/explain", json={"question": "Hello?"}).json()
    assert (nobody["module"], nobody["version"], nobody["stage"], nobody["chain"]) == (None, None, "fallback", [])
    assert "rule: no keyword, pattern or condition applies" in nobody["reason"]


def test_health(server: Server) -> None:
    assert server.get("/healthz").json() == {"status": "ok"}
    readiness = server.get("/readyz").json()
    assert readiness["status"] == "ready"
    assert all(check == {"ok": True} for check in readiness["checks"].values())


def test_metrics_count_what_was_done(server: Server, client: OpenAI) -> None:
    route = "/v1/chat/completions"
    samples = [
        ("quire_http_requests_total", {"route": route, "status": "200"}),
        ("quire_http_requests_total", {"route": "other", "status": "404"}),
        ("quire_errors_total", {"code": "not_found"}),
        ("quire_tokens_total", {"kind": "prompt"}),
        ("quire_tokens_total", {"kind": "cached"}),
        ("quire_tokens_total", {"kind": "completion"}),
        ("quire_first_token_seconds_count", {}),
        ("quire_inter_token_seconds_count", {}),
    ]

    def read() -> list[float]:
        return [server.metric(name, **labels) for name, labels in samples]

    before = read()
    answer = client.chat.completions.create(
        model="quire", max_tokens=6, messages=[{"role": "user", "content": QUESTION}], extra_body={"ignore_eos": True}
    )
    server.get("/nothing-here")
    usage = answer.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    cached = usage.prompt_tokens_details.cached_tokens
    assert [after - b for after, b in zip(read(), before, strict=True)] == [
        1,
        1,
        1,
        usage.prompt_tokens,
        cached,
        6,
        1,
        5,
    ]
    restores = [server.metric("quire_restore_seconds_count", tier=tier) for tier in ("warm", "cold")]
    assert sum(restores) > 0
    assert server.metric("quire_pool_modules") >= 2
    assert server.metric("quire_pool_bytes") > 0


def test_a_change_by_another_process_is_seen(server: Server, client: OpenAI, shop: Path) -> None:
    def who_answers() -> str:
        answer = client.chat.completions.create(
            model="quire/shipping", max_tokens=4, messages=[{"role": "user", "content": "When does it leave?"}]
        )
        return str((answer.model_extra or {})["quire"]["version"])

    source = shop / "shipping.md"
    text = source.read_text(encoding="utf-8")
    first = who_answers()
    with open_project(shop) as project:
        source.write_text(text.replace("noon", "ten"), encoding="utf-8")
        project.build(["shipping"])
        second = project.registry.live("shipping").version
        assert second != first
        assert who_answers() == second
        said = project.chat([Turn("user", "When does it leave?")], module="shipping", max_tokens=4).text()
        project.registry.rollback("shipping", actor="test", reason="the old one was right")
    assert who_answers() == first
    assert said
    source.write_text(text, encoding="utf-8")
