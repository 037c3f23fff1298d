"""What another process notes in the registry, a running server knows: header, answer, lists, figures, refusals."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, NotFoundError, OpenAI

from quire import Project, open_project
from quire.registry import Mark, Reason

from .conftest import StartServer
from .process import Server, eventually
from .two_tenants import SETTINGS, TwoTenants, build

BOLT: list[Any] = [{"role": "user", "content": "What does a bolt cost?"}]
WATCH = 0.3  # seconds between two looks
SLACK = 3.0  # for what is done then, on a busy machine
REASON = Reason("source", "source changed: prices.md", "prices.md", "b3:1", "b3:0")


@pytest.fixture(scope="module")
def beside(unserved_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Server]]:
    """A project, and a server of it in another process."""
    root = Path(shutil.copytree(unserved_shop, tmp_path_factory.mktemp("stale") / "shop"))
    with open_project(root) as project, Server(root, **{"server.watch_seconds": 0}) as server:
        yield project, server


def ask(server: Server, **more: Any) -> Any:
    return server.post("/v1/chat/completions", json={"model": "quire", "messages": BOLT, "max_tokens": 2, **more})


def test_a_stale_module_is_stale_everywhere(beside: tuple[Project, Server]) -> None:
    project, server = beside
    assert "quire-stale" not in ask(server).headers
    live = project.registry.live("prices")
    project.registry.mark([Mark("prices", live.version, (REASON,), "serve")], actor="test")
    for stream in (False, True):
        answer = ask(server, stream=stream)
        assert answer.headers["quire-stale"] == "prices; triggers=source"
        assert '"warning":"this may be out of date: a source changed"' in answer.text
    (listed,) = [m for m in server.get("/v1/modules").json()["data"] if m["module"] == "prices"]
    assert (listed["stale"]["triggers"], listed["stale"]["then"]) == (["source"], "serve")
    assert server.get("/v1/modules/prices").json()["stale"] == listed["stale"]
    assert server.metric("quire_modules_stale", trigger="source") == 1
    project.registry.mark([Mark("prices", live.version, (REASON,), "fallback")], actor="test")
    told = ask(server).json()
    assert told["quire"]["module"] is None
    assert "out of date" in told["choices"][0]["message"]["content"]
    project.registry.mark([Mark("prices", live.version, (REASON,), "refuse")], actor="test")
    refused = ask(server)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "module_stale")
    project.registry.mark([Mark("prices", live.version, (), "serve")], actor="test")
    assert ask(server).json()["quire"]["stale"] is None


def test_an_expired_module_is_gone(beside: tuple[Project, Server]) -> None:
    project, server = beside
    live = project.registry.live("shipping")
    past = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    project.registry.register(replace(live, expires_at=past), actor="test", reason="time passes")
    refused = ask(server, quire={"module": "shipping"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (410, "module_expired")
    assert "expired at 2026-01-02 03:04:05 UTC" in refused.json()["error"]["message"]
    routed = ask(server, messages=[{"role": "user", "content": "When does a parcel leave?"}]).json()
    assert routed["quire"]["stage"] == "fallback"
    assert server.metric("quire_modules_expired") == 1


def test_an_acl_denies_old_routes_before_anything_is_built(
    tmp_path: Path, tiny_model_dir: Path, start_server: StartServer
) -> None:
    """Bob may ask the tenant's prices until the acl says Ann alone; the build that says so has not begun."""
    tenants: TwoTenants = build(tmp_path / "tenants", tiny_model_dir)
    server = start_server(tenants.root, **SETTINGS)

    def answered_by(who: str, **options: Any) -> Any:
        with OpenAI(base_url=f"{server.url}/v1", api_key=tenants.keys[who], max_retries=0) as client:
            answer = client.chat.completions.create(model="quire", messages=BOLT, max_tokens=2, **options)
            return (answer.model_extra or {})["quire"]["module"]

    named = {"extra_body": {"quire": {"module": "prices"}}}
    assert [answered_by(who, **named) for who in ("ann", "bob")] == ["prices", "prices"]
    file = tenants.root / "quire.toml"
    file.write_text(file.read_text().replace('acl = "tenant:acme"', 'acl = "user:acme/ann"'))
    with open_project(tenants.root) as project:
        (changed,) = project.narrow()
        assert (changed.module_id, changed.state) == ("prices", "live")
        table = project.registry.routes.in_force()
        assert table
        assert '"prices":{"examples"' in table.document
        assert '"scope":{"kind":"user","owner":"acme/ann"}' in table.document
    with pytest.raises(NotFoundError, match="no module named 'prices'"):
        answered_by("bob", **named)
    assert answered_by("bob") != "prices"
    assert answered_by("ann", **named) == "prices"
    with open_project(tenants.root) as project:
        report = project.build()
        assert ([r.module_id for r in report.reissued], report.compiled) == (["prices"], [])
    assert answered_by("ann") == "prices"
    with pytest.raises(APIStatusError):
        answered_by("bob", **named)


def test_a_running_server_sees_within_an_interval_that_a_source_changed(
    own_shop: Path, start_server: StartServer
) -> None:
    """Without a build, without a request: list, answer, figures and the log know, and forget it when it is undone."""
    server = start_server(own_shop, **{"server.watch_seconds": WATCH})
    file = own_shop / "prices.md"
    before = file.read_text()

    def stale() -> dict[str, Any]:
        return {m["module"]: m["stale"]["triggers"] for m in server.get("/v1/modules").json()["data"] if m["stale"]}

    assert stale() == {}
    file.write_text(before.replace("3 pounds", "4 pounds"))
    assert eventually(lambda: stale() == {"prices": ["source"]}, WATCH + SLACK)
    assert ask(server).headers["quire-stale"] == "prices; triggers=source"
    assert server.metric("quire_modules_stale", trigger="source") == 1
    (own_shop / "company.md").write_text("Norrvik sells nuts.\n")
    assert eventually(lambda: set(stale()) == {"company", "prices", "shipping"}, WATCH + SLACK)
    file.write_text(before)
    assert eventually(lambda: stale()["prices"] == ["parent"], WATCH + SLACK)
    (own_shop / "company.md").write_text("Norrvik Fasteners sells bolts and nuts to boat builders.\n")
    assert eventually(lambda: stale() == {}, WATCH + SLACK)
    server.terminate()
    code, _, said = server.end()
    assert code == 0
    assert "a module is stale" in said


def test_a_running_server_denies_by_an_acl_that_it_reads(own_shop: Path, start_server: StartServer) -> None:
    """The setting is wrong for a while: what was known stays, and the server goes on."""
    server = start_server(own_shop, **{"server.watch_seconds": WATCH})
    toml = own_shop / "quire.toml"
    before = toml.read_text()
    toml.write_text(before + "nonsense")
    toml.write_text(
        before.replace('sources = ["prices.md"]\nacl = "public"', 'sources = ["prices.md"]\nstale = "refuse"')
    )
    assert eventually(lambda: ask(server).status_code == 409, WATCH + SLACK)
    with open_project(own_shop) as project:
        narrowed = project.registry.live("prices").narrowed
    assert str(narrowed) == "tenant:local"
