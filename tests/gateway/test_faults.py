"""What callers see when the server's own files are at fault: a status, a code, and none of its paths."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from quire import open_project
from quire.access import Principal
from quire.gateway import create_app
from quire.pool import ChainLease
from quire.project import Project
from quire.registry import VersionRecord

QUESTION = {"model": "quire", "max_tokens": 2, "messages": [{"role": "user", "content": "What does a bolt cost?"}]}


@asynccontextmanager
async def asking(project: Project) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this process."""
    app = create_app(project)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("flipped", 500, "checksum_mismatch"),
        ("truncated", 500, "artifact_truncated"),
        ("gone", 503, "artifact_not_found"),
    ],
)
async def test_damage_of_an_artifact(own_shop: Path, fault: str, status: int, code: str) -> None:
    with open_project(own_shop) as project:
        directory = project.store.locate(project.registry.live("company").digest)
        damage(directory, fault)
        async with asking(project) as client:
            response = await client.post("/v1/chat/completions", json=QUESTION)
            readiness = await client.get("/readyz")
        assert project.runtime.pool.state().leases == 0
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (status, code, "server_error")
    assert str(own_shop) not in response.text
    assert ".safetensors" not in response.text
    assert (readiness.status_code, readiness.json()["code"]) == (503, code)
    assert str(own_shop) not in readiness.text


async def test_a_module_that_takes_long_to_fetch_keeps_no_other_waiting(
    own_shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask for it: probes, lists and questions to others go on."""
    arrived = threading.Event()
    with open_project(own_shop) as project:
        lease = project.runtime.pool.lease

        def fetching(chain: Sequence[VersionRecord], principal: Principal) -> ChainLease:
            if chain[-1].module_id == "prices":
                arrived.wait(60)
            return lease(chain, principal)

        monkeypatch.setattr(project.runtime.pool, "lease", fetching)
        async with asking(project) as client:
            named = {module: {**QUESTION, "quire": {"module": module}} for module in ("company", "prices")}
            slow = [asyncio.create_task(client.post("/v1/chat/completions", json=named["prices"])) for _ in range(12)]
            await asyncio.sleep(0.2)
            async with asyncio.timeout(30):
                assert (await client.get("/readyz")).status_code == 200
                assert (await client.get("/v1/models")).status_code == 200
                assert (await client.post("/v1/chat/completions", json=named["company"])).status_code == 200
            assert not any(task.done() for task in slow)
            arrived.set()
            assert {response.status_code for response in await asyncio.gather(*slow)} == {200}


def damage(directory: Path, fault: str) -> None:
    directory.chmod(0o755)
    if fault == "gone":
        shutil.rmtree(directory)
        return
    [shard] = directory.glob("kv-*.safetensors")
    shard.chmod(0o644)
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content if fault == "flipped" else content[:-1])


async def test_another_model_than_the_modules_were_compiled_for(own_shop: Path, tiny_model_dir: Path) -> None:
    other = own_shop / "other-model"
    shutil.copytree(tiny_model_dir, other)
    config = other / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"rope_theta": 10000', '"rope_theta": 20000'))
    toml = own_shop / "quire.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace(str(tiny_model_dir), "other-model"))
    with open_project(own_shop) as project:
        async with asking(project) as client:
            response = await client.post("/v1/chat/completions", json=QUESTION)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "model_mismatch")


async def test_a_project_that_was_never_built(own_shop: Path) -> None:
    shutil.rmtree(own_shop / ".quire")
    with open_project(own_shop) as project:
        async with asking(project) as client:
            assert (await client.get("/healthz")).status_code == 200
            readiness = await client.get("/readyz")
            response = await client.post("/v1/chat/completions", json=QUESTION)
            assert (await client.get("/v1/modules")).json()["data"] == []
    assert (readiness.status_code, readiness.json()["code"]) == (503, "no_live_version")
    assert (response.status_code, response.json()["quire"]["stage"]) == (200, "fallback"), "as where all is hidden"


async def test_a_registry_that_does_not_read(own_shop: Path) -> None:
    with open_project(own_shop) as project:
        async with asking(project) as client:
            assert (await client.get("/readyz")).status_code == 200
            project.registry.close()
            response = await client.post("/v1/chat/completions", json=QUESTION)
            readiness = await client.get("/readyz")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "registry_unreadable")
    assert readiness.status_code == 503
    assert str(own_shop) not in response.text + readiness.text


async def test_a_mistake_of_ours_is_an_answer_too(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(str(shop))

    with open_project(shop) as project:
        async with asking(project) as client:
            monkeypatch.setattr(project.registry, "within", broken)
            response = await client.get("/v1/models")
            metrics = await client.get("/metrics")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert response.headers["x-request-id"].startswith("req_")
    assert str(shop) not in response.text
    assert 'quire_http_requests_total{route="/v1/models",status="500"} 1.0' in metrics.text
