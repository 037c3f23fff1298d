"""/readyz is 200 only when questions can be answered; otherwise it says which part is missing, and the log says why."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from quire import open_project
from quire.errors import DeviceUnavailable
from quire.gateway import create_app, serve
from quire.gateway.gateway import Gateway
from quire.registry import VersionRecord

from .conftest import StartServer
from .process import Server, eventually

CHECKS = {"open", "model", "weights", "registry", "store", "routes", "versions", "room", "modules", "credentials"}


def failing(server: Server) -> dict[str, str]:
    """The codes of the checks that fail."""
    response = server.get("/readyz")
    checks: dict[str, Any] = response.json()["checks"]
    assert set(checks) == CHECKS
    found = {name: check["code"] for name, check in checks.items() if not check["ok"]}
    assert (response.status_code, response.json()["status"]) == ((503, "not ready") if found else (200, "ready"))
    assert response.json().get("code") == next(iter(found.values()), None)
    assert all(check["reason"] for check in checks.values() if not check["ok"])
    return found


def live(root: Path, name: str) -> tuple[VersionRecord, Path]:
    with open_project(root) as project:
        record = project.registry.live(name)
        return record, project.store.locate(record.digest)


def test_an_artifact_that_is_gone_and_comes_back(own_shop: Path, start_server: StartServer) -> None:
    record, directory = live(own_shop, "shipping")
    server = start_server(own_shop, **{"log.format": "json"})
    assert failing(server) == {}
    aside = directory.with_name("aside")
    directory.rename(aside)
    assert failing(server) == {"modules": "artifact_not_found"}
    assert failing(server) == {"modules": "artifact_not_found"}
    assert "shipping" not in server.get("/readyz").text
    assert server.log().count(f"no artifact of {record.ref}") == 1, "told once, in the log"
    aside.rename(directory)
    assert failing(server) == {}
    assert "ready again" in server.log()


def test_one_module_may_be_enough(own_shop: Path, start_server: StartServer) -> None:
    shutil.rmtree(live(own_shop, "shipping")[1])
    server = start_server(own_shop, **{"server.ready_modules": "any"})
    assert failing(server) == {}
    shutil.rmtree(live(own_shop, "prices")[1])
    shutil.rmtree(live(own_shop, "company")[1])
    assert failing(start_server(own_shop, **{"server.ready_modules": "any"})) == {"modules": "artifact_not_found"}


def test_an_expired_module_is_not_waited_for(own_shop: Path, start_server: StartServer) -> None:
    record, directory = live(own_shop, "shipping")
    with closing(sqlite3.connect(own_shop / ".quire" / "registry.db")) as database, database:
        database.execute(
            "UPDATE module_versions SET expires_at = '2026-01-01T00:00:00+00:00' WHERE digest = ?", (record.digest,)
        )
    shutil.rmtree(directory)
    assert failing(start_server(own_shop)) == {}


def test_a_registry_at_another_schema(own_shop: Path, start_server: StartServer) -> None:
    server = start_server(own_shop)
    with closing(sqlite3.connect(own_shop / ".quire" / "registry.db")) as database, database:
        database.execute("UPDATE registry_revision SET version_num = 'r9999'")
    assert failing(server) == {"registry": "registry_unreadable"}


def test_a_store_that_is_none_any_more(own_shop: Path, start_server: StartServer) -> None:
    server = start_server(own_shop)
    artifacts = live(own_shop, "shipping")[1].parent
    artifacts.rename(artifacts.with_name("moved"))
    assert failing(server) == {"modules": "artifact_not_found"}
    artifacts.write_text("not a directory", encoding="utf-8")
    assert failing(server) == {"store": "store_error", "modules": "artifact_not_found"}


def test_tokens_alone_need_the_issuers_keys_and_api_keys_do_without(own_shop: Path, start_server: StartServer) -> None:
    tokens = {"access.issuer": "https://issuer.example", "access.audience": "quire", "access.jwks": "missing.json"}
    assert failing(start_server(own_shop, **tokens)) == {"credentials": "token_keys_missing"}
    assert failing(start_server(own_shop, **tokens, **{"access.keys": "true"})) == {}


def test_live_modules_can_be_opened_before_the_first_question(own_shop: Path, start_server: StartServer) -> None:
    with open_project(own_shop) as project:
        record = project.registry.live("prices")
        project.registry.pin("prices", record.version, actor="test", reason="asked for all day")
    pinned = start_server(own_shop, **{"server.open_modules": "pinned"})
    assert pinned.metric("quire_pool_modules") == 2, "prices and the company that it stands behind"
    assert start_server(own_shop, **{"server.open_modules": "all"}).metric("quire_pool_modules") == 3
    assert start_server(own_shop).metric("quire_pool_modules") == 0


async def test_before_the_model_is_loaded_only_the_process_is_well(shop: Path) -> None:
    with open_project(shop) as project:
        app = create_app(project, load=False)
        gateway: Gateway = app.state.gateway
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/healthz")).status_code == 200
            readiness = await client.get("/readyz")
            question = {"model": "quire", "messages": [{"role": "user", "content": "What does a bolt cost?"}]}
            asked = await client.post("/v1/chat/completions", json=question)
            gateway.load()
            assert (await client.get("/readyz")).status_code == 200
    assert readiness.status_code == 503
    assert readiness.json()["code"] == readiness.json()["checks"]["model"]["code"] == "engine_loading"
    assert (asked.status_code, asked.json()["error"]["code"]) == (503, "engine_loading")
    assert "retry-after" in asked.headers


def test_a_model_that_does_not_load_ends_the_server_with_its_error(own_shop: Path) -> None:
    toml = own_shop / "quire.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("threads = 1", 'device = "cuda:7"'), encoding="utf-8")
    with open_project(own_shop) as project, pytest.raises(DeviceUnavailable):
        serve(project, port=0)


@pytest.mark.slow
def test_while_the_model_loads_the_server_listens(shop: Path) -> None:
    """By a process of its own, asked from its first moment on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "from quire.gateway import serve; from quire.project import open_project; "
        f"serve(open_project({str(shop)!r}), port={port})"
    )
    seen: list[tuple[int, int, str]] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        def ready() -> bool:
            try:
                alive, readiness = client.get("/healthz"), client.get("/readyz")
            except httpx.ConnectError:
                return False
            seen.append((alive.status_code, readiness.status_code, readiness.json().get("code", "")))
            return readiness.status_code == 200

        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
            try:
                assert eventually(ready, seconds=120)
            finally:
                process.terminate()
                process.communicate()
    assert seen[0] == (200, 503, "engine_loading"), "listening before the model is there"
    assert {alive for alive, _, _ in seen} == {200}
    assert process.returncode == 0
