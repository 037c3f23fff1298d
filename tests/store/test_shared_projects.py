"""A project whose artifacts lie in an object store: built on one machine, answered on another, kept in order."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.access import LOCAL
from quire.compiler import collect_garbage, find_problems, remove_broken
from quire.errors import StoreFull, StoreUnreachable
from quire.store.tiers import TieredStore

from .conftest import Shared

pytestmark = pytest.mark.services


@pytest.fixture
def settings(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_STORE_URL", shared.url)
    monkeypatch.setenv("QUIRE_STORE_ENDPOINT", shared.proxy.endpoint)
    monkeypatch.setenv("QUIRE_STORE_TIMEOUT_SECONDS", "1.0")


def answer(project: Project, module: str = "prices") -> list[int]:
    running = project.ask("What?", module=module, max_tokens=6, ignore_eos=True)
    running.text()
    return running.token_ids


def tier(project: Project) -> str:
    running = project.ask("What?", module="prices", max_tokens=1)
    running.text()
    return str(running.prepared.provenance()["tier"])


def another(root: Path, to: Path) -> Path:
    """The project on a machine that has compiled nothing: the same registry, no artifacts."""
    shutil.copytree(root, to)
    shutil.rmtree(to / ".quire" / "artifacts")
    return to


def tiers(project: Project) -> TieredStore:
    assert isinstance(project.store, TieredStore)
    return project.store


def problems(project: Project) -> list[str]:
    return [f"{p.kind} {p.subject}" for p in find_problems(project.registry, project.store, advance=lambda _: None)]


def change(root: Path, text: str = "Norrvik sells nuts to boat builders. ") -> None:
    (root / "knowledge" / "company.md").write_text(text * 9)


@pytest.mark.usefixtures("settings")
def test_built_here_answered_there(shop: Path, tmp_path: Path, shared: Shared) -> None:
    with open_project(shop) as here:
        here.share(here.registry.all_live())  # from before there was an object store
        change(shop)
        here.build()
        said = {module: answer(here, module) for module in ("company", "prices", "shipping")}
        assert sorted(tiers(here).remote.digests()) == sorted(r.digest for r in here.registry.versions())
        assert problems(here) == []
    with open_project(another(shop, tmp_path / "there")) as there:
        assert there.store.digests() == []
        assert [tier(there), tier(there)] == ["remote", "warm"]
        assert {module: answer(there, module) for module in said} == said
        assert len(there.store.digests()) == 3
        assert problems(there) == []


@pytest.mark.usefixtures("settings")
def test_nothing_goes_live_that_the_store_has_not(shop: Path, shared: Shared) -> None:
    with open_project(shop) as project:
        said, live = answer(project), project.registry.live("prices").digest
        change(shop)
        shared.proxy.down = True
        with pytest.raises(StoreUnreachable):
            project.build()
        assert project.registry.live("prices").digest == live
        assert answer(project) == said
        shared.proxy.down = False
        report = project.build()
        assert not report.compiled, "what was compiled is kept"
        assert len(report.published) == 3
        assert tiers(project).remote.has(project.registry.live("prices").digest)


@pytest.mark.usefixtures("settings")
def test_a_build_fetches_the_parents_that_were_evicted(shop: Path, tmp_path: Path) -> None:
    with open_project(shop) as project:
        project.share(project.registry.all_live())
    there = another(shop, tmp_path / "there")
    (there / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds. " * 9)
    with open_project(there) as project:
        assert [ref.module_id for ref in project.build().compiled] == ["prices"]
        assert problems(project) == []


@pytest.mark.usefixtures("settings")
def test_the_pool_gives_up_what_is_idle_when_the_disk_is_full(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_project(shop) as project:
        project.share(project.registry.all_live())
        said = {module: answer(project, module) for module in ("prices", "shipping")}
        sizes = {r.module_id: project.store.size(r.digest) for r in project.registry.all_live()}
    monkeypatch.setenv("QUIRE_STORE_DISK_BYTES", str(sizes["company"] + max(sizes["prices"], sizes["shipping"])))
    with open_project(another(shop, tmp_path / "there")) as project:
        for _ in range(2):
            for module, tokens in said.items():
                assert answer(project, module) == tokens
                assert len(project.store.digests()) == 2
        held = project.runtime.pool.lease(project.registry.chain(project.registry.live("prices")), LOCAL)
        with pytest.raises(StoreFull):
            answer(project, "shipping")
        held.release()


@pytest.mark.usefixtures("settings")
def test_fsck_knows_the_object_store_and_mends_from_it(shop: Path, tmp_path: Path, shared: Shared) -> None:
    with open_project(shop) as project:
        assert sorted(problems(project)) == sorted(f"not shared {r.ref}" for r in project.registry.all_live())
        found = find_problems(project.registry, project.store, advance=lambda _: None)
        assert remove_broken(found, project.store, rebuildable=set()) == []
        assert problems(project) == []
        live = project.registry.live("prices")
        victim = project.store.locate(live.digest) / "kv-00000.safetensors"
        victim.chmod(0o644)
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
        assert problems(project) == [f"damaged {live.ref}"]
        found = find_problems(project.registry, project.store, advance=lambda _: None)
        assert remove_broken(found, project.store, rebuildable=set()) == []
        assert problems(project) == []
        shared.s3.delete(shared.bucket, shared.name(live.digest, "kv-00000.safetensors"))
        assert problems(project) == [f"not shared {live.ref}"]
        shared.proxy.down = True
        shared.proxy.cut_all()
        assert problems(project) == [f"object store {shared.url}"]


@pytest.mark.usefixtures("settings")
def test_gc_takes_what_it_forgets_from_both(shop: Path, shared: Shared) -> None:
    with open_project(shop) as project:
        project.share(project.registry.all_live())
        old = {record.digest for record in project.registry.all_live()}
        change(shop)
        project.build()
        shared.s3.put(shared.bucket, shared.name("b3:" + "5" * 64, "manifest.json"), b"another registry's")
        assert old < set(tiers(project).remote.digests())
        shared.proxy.down = True
        with pytest.raises(StoreUnreachable):
            collect_garbage(project.registry, project.store, keep=0, actor="test")
        assert len(project.registry.versions()) == 6, "out of reach, nothing is forgotten"
        shared.proxy.down = False
        assert len(collect_garbage(project.registry, project.store, keep=0, actor="test").versions) == 3
        live = {record.digest for record in project.registry.all_live()}
        assert set(tiers(project).remote.digests()) == live | {"b3:" + "5" * 64}
        assert set(project.store.digests()) == live


@pytest.mark.usefixtures("settings")
def test_without_the_store_open_modules_answer_and_others_refuse(shop: Path, tmp_path: Path, shared: Shared) -> None:
    with open_project(shop) as project:
        project.share(project.registry.all_live())
    with open_project(another(shop, tmp_path / "there")) as project:
        said = answer(project, "prices")
        shared.proxy.down = True
        shared.proxy.cut_all()
        assert answer(project, "prices") == said
        began = time.monotonic()
        with pytest.raises(StoreUnreachable):
            answer(project, "shipping")
        assert time.monotonic() - began < 5
        shared.proxy.down = False
        time.sleep(2.1)
        assert answer(project, "shipping")
