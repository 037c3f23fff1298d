"""Registry and store stay in step: garbage goes, damage is named and repaired, what is needed stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.compiler import collect_garbage, find_problems, forget_unrepairable, remove_broken
from quire.compiler.maintenance import Problem
from quire.store import DiskStore

BY = {"actor": "tester", "reason": "to see"}


@pytest.fixture
def project(shop: Path) -> Iterator[Project]:
    """The shop after three editions of its prices and two of its root."""
    with open_project(shop) as opened:
        for number in range(3):
            (shop / "knowledge" / "prices.md").write_text(f"A bolt costs {number} pounds.")
            opened.build()
        (shop / "knowledge" / "company.md").write_text("Norrvik sells nuts.")
        opened.build()
        yield opened


def problems(project: Project) -> list[Problem]:
    return find_problems(project.registry, project.store, advance=lambda _: None)


def versions(project: Project) -> set[str]:
    return {str(record.ref) for record in project.registry.versions()}


def repair(project: Project) -> list[Problem]:
    found = problems(project)
    rebuildable = {f"{plan.spec.module_id}@{plan.version}" for plan in project.plan()}
    remove_broken(found, project.store, rebuildable=rebuildable)
    project.build()
    forget_unrepairable(found, project.registry, project.store, actor="tester")
    return problems(project)


def damage(project: Project, digest: str) -> None:
    shard = project.store.locate(digest) / "kv-00000.safetensors"
    shard.chmod(0o644)
    with shard.open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"\x7f")


def test_garbage_is_what_nobody_needs(project: Project) -> None:
    before, live = versions(project), {r.digest for r in project.registry.versions() if r.state == "live"}
    pinned = next(r for r in project.registry.versions("prices") if r.state == "retired")
    project.registry.pin("prices", pinned.version, **BY)
    dry = collect_garbage(project.registry, project.store, keep=0, actor="tester", dry_run=True)
    assert versions(project) == before, "a dry run changes nothing"
    done = collect_garbage(project.registry, project.store, keep=0, actor="tester")
    assert done == dry
    assert set(done.versions) == before - versions(project)
    assert done.freed_bytes > 0
    assert done.in_use == done.orphans == []
    left = {r.digest for r in project.registry.versions()}
    assert live < left
    assert {r.digest for r in project.registry.chain(pinned)} <= left, "a pinned version keeps its ancestors"
    assert set(project.store.digests()) == left
    assert problems(project) == []


def test_the_newest_are_kept(project: Project) -> None:
    newest = [str(r.ref) for r in project.registry.versions("prices") if r.state != "live"][:2]
    collect_garbage(project.registry, project.store, keep=2, actor="tester")
    assert set(newest) <= versions(project)
    assert collect_garbage(project.registry, project.store, keep=2, actor="tester").versions == []


def test_what_is_in_use_stays_with_its_ancestors(project: Project) -> None:
    """Somebody reads one artifact of an old chain: its version, and its parent's, stay whole."""
    child = next(r for r in project.registry.versions("prices") if r.state == "retired")
    with project.store.lease(child.digest):
        done = collect_garbage(project.registry, project.store, keep=0, actor="tester")
        assert str(child.ref) in done.in_use
        chain = project.registry.chain(child)
        assert problems(project) == []
        assert all(project.store.locate(r.digest) for r in chain)
    done = collect_garbage(project.registry, project.store, keep=0, actor="tester")
    assert str(child.ref) in done.versions
    assert done.in_use == []


class Meddled(DiskStore):
    """A store on which something else happens just before garbage collection looks at an artifact."""

    def __init__(self, root: Path, meddle: Callable[[], object]) -> None:
        super().__init__(root)
        self._meddle = meddle

    def in_use(self, digest: str) -> bool:
        self._meddle()
        return super().in_use(digest)


def test_what_was_published_meanwhile_stays(project: Project) -> None:
    """A rollback between the list of garbage and its removal."""
    old = next(r for r in project.registry.versions("shipping") if r.state == "retired")
    parent = project.registry.chain(old)[0]

    def roll_back() -> None:
        project.registry.publish_many([("company", parent.version), ("shipping", old.version)], **BY)

    store = Meddled(project.settings.state, roll_back)
    done = collect_garbage(project.registry, store, keep=0, actor="tester")
    assert {str(old.ref), str(parent.ref)} <= set(done.in_use)
    assert project.registry.live("shipping").digest == old.digest
    assert project.store.locate(old.digest)
    assert problems(project) == []


def test_orphans_are_named_and_removed(project: Project) -> None:
    record = next(r for r in project.registry.versions("prices") if r.state == "retired")
    project.registry.forget("prices", record.version, **BY)
    (orphan,) = problems(project)
    assert (orphan.kind, orphan.subject) == ("orphaned", record.digest)
    with project.store.lease(record.digest):
        assert [p.kind for p in repair(project)] == ["orphaned"]
    assert repair(project) == []
    assert problems(project) == []


def test_what_others_publish_meanwhile_is_no_orphan(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    record = next(r for r in project.registry.versions("prices") if r.state == "retired")
    known = project.registry.referenced_digests() - {record.digest}
    there = project.store.digests()

    def meanwhile() -> frozenset[str]:
        """Another server built and published it after this look began, and it came to this disk."""
        monkeypatch.setattr(project.store, "digests", lambda: there)
        return known

    monkeypatch.setattr(project.store, "digests", lambda: [digest for digest in there if digest != record.digest])
    monkeypatch.setattr(project.registry, "referenced_digests", meanwhile)
    assert not [problem for problem in problems(project) if problem.kind == "orphaned"]


def test_damage_and_loss_are_named_and_repaired(project: Project) -> None:
    damaged, lost = project.registry.live("prices"), project.registry.live("company")
    damage(project, damaged.digest)
    shutil.rmtree(project.store.locate(lost.digest))
    found = {(p.kind, p.subject) for p in problems(project)}
    assert found == {("damaged", str(damaged.ref)), ("missing", str(lost.ref))}
    assert repair(project) == []
    assert problems(project) == []
    assert project.registry.live("prices").digest == damaged.digest, "the same bytes again"
    project.ask("What?", module="prices", max_tokens=2).text()


def test_an_old_version_that_cannot_be_made_again_is_forgotten(project: Project) -> None:
    old = next(r for r in project.registry.versions("prices") if r.state == "retired")
    damage(project, old.digest)
    assert repair(project) == []
    assert str(old.ref) not in versions(project)
    assert problems(project) == []


def test_a_version_made_again_to_other_bytes_leaves_no_orphan(project: Project, shop: Path) -> None:
    toml = shop / "quire.toml"
    toml.write_text(toml.read_text().replace("threads = 1", "threads = 2"))
    old = project.registry.live("company")
    project.runtime.pool.close()
    shutil.rmtree(project.store.locate(old.digest))
    with open_project(shop) as again:
        again.build()
        assert again.registry.live("company").digest != old.digest
        kinds = {(p.kind, p.subject.partition("@")[0]) for p in problems(again)}
        assert not [k for k in kinds if k[0] == "orphaned"]


def test_what_is_no_artifact_is_found_and_removed(project: Project) -> None:
    place = project.store.locate(project.registry.live("prices").digest).parent
    (place / "junk.txt").write_text("?")
    (place / ".copy-of-something").mkdir()
    assert {(p.kind, p.subject) for p in problems(project)} == {
        ("orphaned", str(place / "junk.txt")),
        ("orphaned", str(place / ".copy-of-something")),
    }
    assert repair(project) == []
    assert not (place / "junk.txt").exists()


def test_the_last_bytes_of_a_live_module_are_kept(project: Project, shop: Path) -> None:
    live = project.registry.live("prices")
    damage(project, live.digest)
    remaining = remove_broken(problems(project), project.store, rebuildable=set())
    assert [p.record for p in remaining] == [live]
    assert project.store.locate(live.digest).is_dir()
    assert "quire retire" in remaining[0].remedy
    project.registry.retire("prices", live.version, **BY)
    forgotten = forget_unrepairable(problems(project), project.registry, project.store, actor="tester")
    assert forgotten == [str(live.ref)]
