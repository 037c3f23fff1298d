"""Servers with different checkouts on one registry never answer each other, whichever of them built what is live."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quire import open_project
from quire.gateway.watching import StalenessWatch
from quire.registry import AuditRecord, Folding, Registry
from quire.settings import load_settings

from .process import Server, eventually

OLD = {"prices": "A bolt costs 3 pounds. " * 4, "shipping": "Parcels leave at noon. " * 4}
NEW = {**OLD, "prices": "A bolt costs 4 pounds. " * 4}
POLLS = 10
MakeProject = Callable[..., Path]


class Deployment:
    """Two directories with checkouts, one registry, one object store, and the watch of a server in each directory."""

    def __init__(self, home: Path, place: str, write: MakeProject, stack: ExitStack, **settings: object) -> None:
        self._write = write
        self._stack = stack
        self._settings: dict[str, object] = {
            "registry.url": place if "://" in place else f"sqlite:///{place}",
            "store.url": f"file://{home}/objects",
            **settings,
        }
        self.roots = home / "one", home / "two"
        for root in self.roots:
            self.deploy(root, OLD)
        self.build(self.roots[0])
        self.registry = stack.enter_context(Registry.open(place))
        self.watches = [self.started(root) for root in self.roots]

    def deploy(self, root: Path, sources: dict[str, str]) -> None:
        self._write(root, sources, **self._settings)

    def edit(self, root: Path, text: str, module: str = "prices") -> None:
        """In one step, so that no server reads half of it."""
        (root / "edited").write_text(text)
        (root / "edited").replace(root / "knowledge" / f"{module}.md")

    def acl(self, root: Path, old: str, new: str) -> None:
        toml = root / "quire.toml"
        text = toml.read_text()
        assert f'acl = "{old}"' in text
        toml.write_text(text.replace(f'acl = "{old}"', f'acl = "{new}"', 1))  # that of prices

    def build(self, root: Path) -> str:
        """Gives the version of prices that is live then."""
        with open_project(root) as project:
            project.build()
            return project.registry.live("prices").version

    def started(self, root: Path) -> StalenessWatch:
        """What looks in a server that was started just now."""
        settings = load_settings(root / "quire.toml", {})
        registry = self._stack.enter_context(Registry.open(settings.registry_place, heads=settings.state))
        return StalenessWatch(settings, registry, 5.0)

    def poll(self, times: int = POLLS) -> None:
        for _ in range(times):
            for watch in self.watches:
                watch.look()

    def settled(self) -> int:
        """Both look, and then again and again: what they found the first time stays. Gives the generation."""
        self.poll(1)
        generation, stale = self.registry.generation(), self.stale()
        self.poll()
        assert (self.registry.generation(), self.stale()) == (generation, stale)
        return generation

    def stale(self) -> dict[str, tuple[str, ...]]:
        return {one.module_id: one.stale.triggers for one in self.registry.all_live() if one.stale}

    def said(self) -> list[AuditRecord]:
        return [record for record in self.registry.audit.each() if record.kind.startswith("invalidation.")]


@pytest.fixture
def deployment(place: str, tmp_path: Path, write_project: MakeProject) -> Iterator[Deployment]:
    with ExitStack() as stack:
        made = Deployment(tmp_path, place, write_project, stack)
        yield made
        assert made.registry.integrity() == []


def test_a_checkout_that_never_agreed_says_nothing(deployment: Deployment) -> None:
    two = deployment.roots[1]
    deployment.deploy(two, NEW)
    before = deployment.registry.generation()
    assert deployment.settled() == before
    assert deployment.stale() == {}
    assert [watch.foreign for watch in deployment.watches] == [0, 1]
    deployment.edit(two, "A bolt costs 5 pounds. " * 4)  # nor after a change of its own
    assert deployment.settled() == before
    with open_project(two) as project:  # nor what a build says before it ends
        assert project.mark() == []


def test_what_is_edited_on_the_machine_of_the_build_is_marked_once_and_cleared_once(deployment: Deployment) -> None:
    deployment.poll(1)
    one = deployment.roots[0]
    deployment.edit(one, NEW["prices"])
    deployment.settled()
    assert deployment.stale() == {"prices": ("source",)}
    deployment.edit(one, OLD["prices"])
    deployment.settled()
    assert deployment.stale() == {}
    assert [(r.kind, r.who.partition(" ")[0]) for r in deployment.said()] == [
        ("invalidation.stale", "server"),
        ("invalidation.cleared", "server"),
    ]


def test_a_server_that_was_restarted_after_the_edit_still_knows(deployment: Deployment) -> None:
    deployment.poll(1)
    one = deployment.roots[0]
    deployment.edit(one, NEW["prices"])
    deployment.watches[0] = deployment.started(one)
    deployment.settled()
    assert deployment.stale() == {"prices": ("source",)}
    deployment.edit(one, OLD["prices"])
    deployment.watches[0] = deployment.started(one)
    deployment.settled()
    assert deployment.stale() == {}
    assert len(deployment.said()) == 2


def test_an_edit_between_a_build_and_the_next_look_is_seen(deployment: Deployment) -> None:
    """The server has never seen its checkout agree with what was built beside it: the build has."""
    deployment.poll(1)
    one = deployment.roots[0]
    deployment.edit(one, NEW["prices"])
    deployment.build(one)
    deployment.edit(one, "A bolt costs 5 pounds. " * 4)
    deployment.settled()
    assert deployment.stale() == {"prices": ("source",)}


@pytest.mark.parametrize("fresh", [False, True], ids=["in place", "fresh directories"])
def test_a_rolling_deploy(deployment: Deployment, fresh: bool) -> None:
    """The first server gets the new checkout and builds, later the second gets it."""
    deployment.poll(1)
    live = deployment.registry.live("prices")
    seen: list[dict[str, tuple[str, ...]]] = []
    for number, root in enumerate(deployment.roots):
        if fresh:
            shutil.rmtree(root)
        deployment.deploy(root, NEW)
        if number == 0:
            deployment.build(root)
        if fresh:
            deployment.watches[number] = deployment.started(root)
        deployment.settled()
        seen.append(deployment.stale())
    assert seen == [{}, {}], "what is live is what was built last, and nobody doubts it"
    assert deployment.registry.live("prices").version != live.version
    assert [watch.foreign for watch in deployment.watches] == [0, 0]
    assert len(deployment.said()) == (0 if fresh else 1), "the old version, by the build"


def test_a_deploy_without_a_build_is_marked_once(deployment: Deployment) -> None:
    deployment.poll(1)
    for root in deployment.roots:
        deployment.deploy(root, NEW)
        deployment.settled()
        assert deployment.stale() == {"prices": ("source",)}
    (only,) = deployment.said()
    assert only.kind == "invalidation.stale"
    for root in deployment.roots:  # and taken back
        deployment.deploy(root, OLD)
        deployment.settled()
        assert deployment.stale() == {}
    assert [record.kind for record in deployment.said()] == ["invalidation.stale", "invalidation.cleared"]


def test_a_deploy_of_fresh_directories_without_a_build_says_so_on_each_server(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    deployment.poll(1)
    before = deployment.registry.generation()
    for number, root in enumerate(deployment.roots):
        shutil.rmtree(root)
        deployment.deploy(root, NEW)
        deployment.watches[number] = deployment.started(root)
        assert deployment.settled() == before
    assert [watch.foreign for watch in deployment.watches] == [1, 1]
    lines = [record for record in caplog.records if "was not built from this checkout" in record.message]
    assert len(lines) == 2, "once by each"
    deployment.build(deployment.roots[1])
    deployment.settled()
    assert [watch.foreign for watch in deployment.watches] == [0, 0]


def test_a_state_directory_may_be_shared(place: str, tmp_path: Path, write_project: MakeProject) -> None:
    """What one checkout agreed with, the other one has not agreed with for that."""
    with ExitStack() as stack:
        shared = {"store.path": str(tmp_path / "state")}
        deployment = Deployment(tmp_path, place, write_project, stack, **shared)
        deployment.deploy(deployment.roots[1], NEW)
        before = deployment.registry.generation()
        assert deployment.settled() == before
        deployment.edit(deployment.roots[0], "A bolt costs 5 pounds. " * 4)
        assert deployment.settled() == before + 1


def test_a_state_directory_that_cannot_be_written_is_logged(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """The server goes on with what it has seen itself."""
    one = deployment.roots[0]
    (one / ".quire" / "checkout.json").unlink()
    (one / ".quire" / "checkout.json").mkdir()
    deployment.poll(1)
    deployment.edit(one, NEW["prices"])
    deployment.settled()
    assert deployment.stale() == {"prices": ("source",)}
    assert any("a restart will not know" in record.message for record in caplog.records)
    assert [path.name for path in (one / ".quire").glob("checkout.json.*")] == []


@pytest.mark.parametrize("damage", ["", "nonsense", "[]", '{"prices": 3}'])
def test_a_damaged_memory_is_none(deployment: Deployment, damage: str) -> None:
    deployment.edit(deployment.roots[0], NEW["prices"])
    (deployment.roots[0] / ".quire" / "checkout.json").write_text(damage)
    before = deployment.registry.generation()
    assert deployment.settled() == before
    assert deployment.watches[0].foreign == 1


def test_a_build_that_changes_nothing_marks_only_what_its_checkout_agreed_with(deployment: Deployment) -> None:
    """Its new version fails a golden test, so the live one stays. `quire build --watch` does so after each change."""
    (deployment.roots[0].parent / "golden.yaml").write_text("- question: What?\n  contains: no such words, ever\n")
    for root, said in ((deployment.roots[1], {}), (deployment.roots[0], {"prices": ("source",)})):
        (root / "golden").mkdir()
        shutil.copy(root.parent / "golden.yaml", root / "golden" / "prices.yaml")
        deployment.edit(root, NEW["prices"])
        with open_project(root) as project:
            for _ in range(2):
                assert "prices" in project.build().withheld
        assert deployment.stale() == said


def test_a_copy_of_a_checkout_with_its_state_does_not_argue(deployment: Deployment) -> None:
    """Both remember the same: that they agreed, and which of them marked."""
    one, two = deployment.roots
    deployment.poll(1)
    deployment.edit(one, NEW["prices"])
    deployment.settled()
    shutil.rmtree(two)
    shutil.copytree(one, two)
    deployment.edit(two, OLD["prices"])
    deployment.watches[1] = deployment.started(two)
    generation = deployment.settled()
    deployment.watches = [deployment.started(root) for root in deployment.roots]
    assert deployment.settled() <= generation + 1, "what one of them says when it is started, it says once"


def test_different_acls_do_not_take_turns(deployment: Deployment) -> None:
    one, two = deployment.roots
    deployment.acl(two, "public", "tenant:acme")
    deployment.watches[1] = deployment.started(two)
    deployment.settled()
    assert str(deployment.registry.live("prices").narrowed) == "tenant:acme"
    deployment.acl(one, "public", "tenant:local")
    deployment.settled()
    assert str(deployment.registry.live("prices").narrowed) == "tenant:local", "the acl of the build's checkout"
    with open_project(two) as project:
        project.narrow()  # as a build does, which somebody asked for
    deployment.settled()
    assert str(deployment.registry.live("prices").narrowed) == "tenant:acme"


def test_a_checkout_that_never_agreed_takes_readers_away_once_and_gives_none_back(deployment: Deployment) -> None:
    """A fresh container with a narrower acl is obeyed before anything is built; one with a wider acl is not."""
    one, two = deployment.roots
    deployment.deploy(two, NEW)
    deployment.acl(two, "public", "tenant:acme")
    deployment.watches[1] = deployment.started(two)
    narrowed = deployment.settled()
    assert str(deployment.registry.live("prices").narrowed) == "tenant:acme"
    deployment.acl(two, "tenant:acme", "public")
    deployment.watches[1] = deployment.started(two)
    assert deployment.settled() == narrowed
    deployment.acl(two, "public", "tenant:acme")
    deployment.settled()
    with open_project(one) as project:  # a person asks for the wider acl
        project.narrow()
    deployment.settled()
    assert deployment.registry.live("prices").narrowed is None


def test_a_build_clears_a_mark_that_nobody_is_left_to_clear(deployment: Deployment) -> None:
    """The machine that marked is gone for good."""
    one, two = deployment.roots
    deployment.poll(1)
    deployment.edit(one, NEW["prices"])
    deployment.settled()
    del deployment.watches[0]
    shutil.rmtree(one)
    deployment.settled()
    assert deployment.stale() == {"prices": ("source",)}
    deployment.build(two)
    deployment.settled()
    assert deployment.stale() == {}


def test_a_file_that_goes_to_and_fro_is_folded(deployment: Deployment) -> None:
    """A machine may write a source. Its module stays marked then, and the log says how often that changed."""
    one = deployment.roots[0]
    watch = deployment.watches[0]
    now = [datetime(2026, 12, 1, 12, tzinfo=UTC)]
    watch.registry.audit.folding = Folding(now=lambda: now[0])
    watch.look()
    for turn in range(60):
        deployment.edit(one, (NEW, OLD)[turn % 2]["prices"] + " " * (turn % 7))
        watch.look()
        now[0] += timedelta(seconds=5)
    assert deployment.stale() == {"prices": ("source",)}
    assert len(deployment.said()) < 15
    now[0] += timedelta(minutes=10)
    watch.look()
    assert deployment.stale() == {}, "as its sources say at last"
    (folded,) = [record for record in deployment.registry.audit.each() if record.kind == "log.folded"]
    assert (folded.what, folded.details["kind"]) == (
        str(deployment.registry.live("prices").ref),
        "invalidation.cleared",
    )
    assert folded.details["count"] >= 20
    assert folded.details["first"] < folded.details["last"]


def test_two_servers_in_processes_of_their_own(place: str, tmp_path: Path, write_project: MakeProject) -> None:
    """Every change of a file makes one record, however often both have looked; answers of both say the same."""
    with ExitStack() as stack:
        deployment = Deployment(tmp_path, place, write_project, stack)
        one, two = deployment.roots
        deployment.edit(two, NEW["prices"])
        servers = [stack.enter_context(Server(root, **{"server.watch_seconds": 0.2})) for root in deployment.roots]
        assert eventually(lambda: servers[1].metric("quire_modules_built_elsewhere") == 1, 60)
        before = deployment.registry.generation()
        for turn in range(6):
            deployment.edit(one, (OLD["shipping"], "Parcels leave at one. ")[(turn + 1) % 2], "shipping")
            wanted = {"shipping"} if turn % 2 == 0 else set()
            for server in servers:
                assert eventually(lambda s=server, w=wanted: stale_of(s) == w, 60)  # type: ignore[misc]
            answers = [answer(server) for server in servers]
            assert [one.get("stale") for one in answers] == [None, None]
        assert deployment.registry.generation() == before + 6
        assert [record.module for record in deployment.said()] == ["shipping"] * 6


def stale_of(server: Server) -> set[str]:
    return {one["module"] for one in server.get("/v1/modules").json()["data"] if one["stale"]}


def answer(server: Server) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What does a bolt cost?"}]
    body = {"model": "quire", "messages": messages, "max_tokens": 1, "quire": {"module": "prices"}}
    answered = server.post("/v1/chat/completions", json=body)
    assert answered.status_code == 200, answered.text
    provenance: dict[str, Any] = answered.json()["quire"]
    assert provenance["module"] == "prices"
    return provenance
