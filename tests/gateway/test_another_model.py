"""A build for another model, under a server that runs: it says so, and goes on with what it had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from quire import open_project

from .conftest import StartServer
from .process import Server, eventually


def ask(server: Server, module: str = "prices") -> tuple[int, dict[str, Any]]:
    messages = [{"role": "user", "content": "What does a bolt cost?"}]
    body = {"model": "quire", "messages": messages, "max_tokens": 2, "quire": {"module": module}}
    response = server.post("/v1/chat/completions", json=body)
    return response.status_code, response.json()


def build_for(root: Path, model: Path) -> None:
    toml = root / "quire.toml"
    lines = toml.read_text(encoding="utf-8").splitlines()
    toml.write_text("\n".join(f'path = "{model}"' if line.startswith("path") else line for line in lines))
    with open_project(root) as project:
        project.build()


@pytest.fixture(scope="module")
def other_model(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, with an epsilon that makes another model of them."""
    other = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(tiny_model_dir, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    return other


def test_a_server_goes_on_with_what_it_had_until_it_is_restarted(
    own_shop: Path, tiny_model_dir: Path, other_model: Path, start_server: StartServer
) -> None:
    with open_project(own_shop) as project:
        old = {record.module_id: record.version for record in project.registry.all_live()}
    server = start_server(own_shop, **{"registry.poll_seconds": 0.1})
    before = ask(server)[1]
    build_for(own_shop, other_model)
    assert eventually(lambda: server.metric("quire_modules_for_another_model", answer="continued") == 3)

    status, after = ask(server)
    assert (status, after["choices"][0]["message"]) == (200, before["choices"][0]["message"])
    assert after["quire"]["version"] == old["prices"]
    assert "model" in after["quire"]["stale"]["triggers"]
    readiness = server.get("/readyz")
    assert (readiness.status_code, readiness.json()["checks"]["versions"]) == (
        200,
        {"ok": True, "restart_needed": True},
    )
    assert server.log().count("restart needed") == 1

    with open_project(own_shop) as project:
        project.registry.revoke("prices", old["prices"], actor="test", reason="a wrong price")
    assert eventually(lambda: server.metric("quire_modules_for_another_model", answer="refused") == 1)
    status, refused = ask(server)
    assert (status, refused["error"]["code"]) == (500, "model_mismatch"), "what is revoked is not what it goes on with"
    assert ask(server, "shipping")[0] == 200
    readiness = server.get("/readyz")
    assert (readiness.status_code, readiness.json()["code"]) == (503, "model_mismatch")
    assert "must be restarted" in readiness.json()["checks"]["versions"]["reason"]

    restarted = start_server(own_shop, **{"registry.poll_seconds": 0.1})
    assert restarted.get("/readyz").json()["checks"]["versions"] == {"ok": True}
    assert ask(restarted)[1]["quire"]["version"] != old["prices"]
    build_for(own_shop, tiny_model_dir)  # all but prices, which is revoked for that model
    assert eventually(lambda: restarted.metric("quire_modules_for_another_model", answer="continued") == 2)


def test_it_does_what_the_module_does_while_it_is_stale(
    own_shop: Path, other_model: Path, start_server: StartServer
) -> None:
    toml = own_shop / "quire.toml"
    text = toml.read_text(encoding="utf-8").replace("[modules.prices]", '[modules.prices]\nstale = "refuse"')
    toml.write_text(text, encoding="utf-8")
    server = start_server(own_shop, **{"registry.poll_seconds": 0.1})
    with open_project(own_shop) as project:
        shipping = project.registry.live("shipping").version
    build_for(own_shop, other_model)
    assert eventually(lambda: server.metric("quire_modules_for_another_model", answer="continued") == 3)
    assert ask(server)[1]["error"]["code"] == "module_stale"
    assert ask(server, "shipping")[1]["quire"]["version"] == shipping
