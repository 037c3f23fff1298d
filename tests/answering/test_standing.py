"""What a stale or expired module does meanwhile, and what of it is told to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.access import Principal
from quire.answering import NotCovered, Prepared, Question
from quire.core import Scope, Turn, WhenStale
from quire.errors import ModuleExpired, ModuleStale, ModuleUnknown, NoRoute
from quire.registry import Mark, Reason

MakeProject = Callable[..., Path]
ANN = Principal("acme", "ann", roles=frozenset({"reader"}))
EVE = Principal("globex", "eve", roles=frozenset({"reader"}))
ROUTED = Question((Turn("user", "What does a bolt cost?"),))
NAMED = replace(ROUTED, module="prices")
REASON = Reason("source", "source changed: knowledge/prices.md", "knowledge/prices.md", "b3:1", "b3:0")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_project: MakeProject) -> Iterator[Project]:
    """A tenant's module behind a public one; a rule leads to it."""
    sources = {"company": "Norrvik sells bolts.", "prices": "A bolt costs 3 pounds."}
    root: Path = write_project(tmp_path_factory.mktemp("standing") / "shop", sources, parents={"prices": "company"})
    file = root / "quire.toml"
    text = file.read_text().replace('prices.md"]\nacl = "public"', 'prices.md"]\nacl = "tenant:acme"')
    file.write_text(f'{text}[modules.prices.route]\nkeywords = ["bolt"]\n')
    with open_project(root) as project:
        project.build()
        yield project


@pytest.fixture
def project(built: Project) -> Iterator[Project]:
    """Whatever a test marks is as before after it."""
    yield built
    for live in built.registry.all_live():
        built.registry.mark([Mark(live.module_id, live.version, (), "serve")], actor="test")
        built.registry.register(replace(live, expires_at=None), actor="test", reason="as before")


def mark(project: Project, then: WhenStale, name: str = "prices") -> None:
    live = project.registry.live(name)
    project.registry.mark([Mark(name, live.version, (REASON,), then)], actor="test")


def expire(project: Project, name: str) -> None:
    past = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    project.registry.register(replace(project.registry.live(name), expires_at=past), actor="test", reason="time passes")


def considered(project: Project, question: Question, principal: Principal = ANN) -> Prepared | NotCovered:
    found = project.runtime.answerer.consider(question, principal)
    found.release()
    return found


def test_what_is_fresh_says_nothing(project: Project) -> None:
    assert considered(project, ROUTED).provenance()["stale"] is None


def test_a_stale_module_that_serves_warns(project: Project) -> None:
    mark(project, "serve")
    for question in (ROUTED, NAMED):
        told = considered(project, question).provenance()
        assert told["module"] == "prices"
        assert told["stale"]["triggers"] == ["source"]
        assert told["stale"]["warning"] == "this may be out of date: a source changed"
        assert "knowledge/prices.md" not in repr(told), "readers of a module are not told its files"
        assert datetime.now(UTC) - datetime.fromisoformat(told["stale"]["since"]) < timedelta(minutes=5)


def test_one_that_falls_back_says_so_and_refuses_who_names_it(project: Project) -> None:
    mark(project, "fallback")
    told = considered(project, ROUTED)
    assert isinstance(told, NotCovered)
    assert told.plan.reason == "what prices says about it is out of date: a source changed"
    assert told.provenance()["module"] is None
    with pytest.raises(NoRoute, match="out of date"):
        project.runtime.answerer.prepare(ROUTED, ANN)
    with pytest.raises(ModuleStale, match=r"a source changed.*does not answer then"):
        considered(project, NAMED)


def test_one_that_refuses_is_an_error_either_way(project: Project) -> None:
    mark(project, "refuse")
    for question in (ROUTED, NAMED):
        with pytest.raises(ModuleStale, match=r"prices@\w+ is stale since") as refused:
            considered(project, question)
        assert refused.value.hint
    assert project.runtime.pool.state().leases == 0


def test_a_stale_ancestor_counts_where_the_module_itself_is_not_marked(project: Project) -> None:
    mark(project, "refuse", "company")
    with pytest.raises(ModuleStale):
        considered(project, NAMED)
    mark(project, "serve")
    assert considered(project, NAMED).provenance()["stale"]["then"] == "serve", "its own mark comes first"


@pytest.mark.parametrize("then", ["serve", "fallback", "refuse"])
def test_who_may_not_see_it_learns_nothing(project: Project, then: WhenStale) -> None:
    before = considered(project, ROUTED, EVE)
    mark(project, then)
    after = considered(project, ROUTED, EVE)
    assert isinstance(after, NotCovered)
    assert after.provenance() == before.provenance()
    with pytest.raises(ModuleUnknown, match="no module named 'prices'"):
        considered(project, NAMED, EVE)
    expire(project, "prices")
    assert considered(project, ROUTED, EVE).provenance() == before.provenance()


@pytest.mark.parametrize("name", ["prices", "company"])
def test_an_expired_chain_is_not_routed_to_and_refuses_who_names_it(project: Project, name: str) -> None:
    expire(project, name)
    told = considered(project, ROUTED)
    assert isinstance(told, NotCovered)
    assert told.plan.reason == "what prices says about it expired at 2026-01-02 03:04 UTC"
    with pytest.raises(ModuleExpired, match=rf"{name}@\w+ expired at 2026-01-02 03:04:00 UTC"):
        considered(project, NAMED)


def test_readers_that_an_acl_leaves_out_are_denied_before_the_build(project: Project) -> None:
    """The version that answers is still the old one, which says that the whole tenant may read it."""
    leads = project.registry.live("prices")
    project.registry.narrow({"prices": Scope("user", "acme/bob")}, actor="build")
    with pytest.raises(ModuleUnknown):
        considered(project, NAMED)
    told = considered(project, ROUTED)
    assert isinstance(told, NotCovered)
    assert "prices" not in told.text
    bob = Principal("acme", "bob", roles=frozenset({"reader"}))
    assert considered(project, NAMED, bob).provenance()["version"] == leads.version
    with pytest.raises(ModuleUnknown):  # also with records in hand that were found before
        project.runtime.pool.lease(project.registry.chain(project.registry.live("prices")), ANN)
    project.registry.narrow({"prices": Scope("tenant", "acme")}, actor="build")
    assert considered(project, NAMED).provenance()["version"] == leads.version


def test_a_narrowed_parent_denies_its_children(project: Project) -> None:
    project.registry.narrow({"company": Scope("tenant", "globex")}, actor="build")
    with pytest.raises(ModuleUnknown):
        considered(project, NAMED)
    project.registry.narrow({"company": Scope("public")}, actor="build")
    assert considered(project, NAMED)
