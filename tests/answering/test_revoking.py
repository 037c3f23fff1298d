"""What is revoked answers nothing more at once; what it is answering ends as the setting says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.access import LOCAL
from quire.answering import Answer, Question
from quire.core import Sampling, Turn
from quire.errors import IllegalTransition, ModuleRevoked, NoLiveVersion
from quire.registry import Registry

BY = {"actor": "test", "reason": "it is wrong"}
LONG = Sampling(max_tokens=600, ignore_eos=True)


def opened(shop: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> Project:
    monkeypatch.setenv("QUIRE_ENGINE_ON_REVOKE", then)
    return open_project(shop)


def begun(project: Project, module: str) -> Answer:
    """An answer of which some text was told, and most was not."""
    answer = project.chat([Turn("user", "What?")], module=module, max_tokens=600, ignore_eos=True)
    next(answer)
    return answer


def test_answers_under_way_are_cut_where_the_setting_says_so(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(shop, monkeypatch, "cut") as project:
        child, other = begun(project, "prices"), begun(project, "shipping")
        changed = project.revoke(project.registry.live("prices"), **BY)
        assert [record.module_id for record in changed] == ["prices"]
        with pytest.raises(ModuleRevoked, match="was revoked") as cut:
            child.text()
        assert cut.value.hint
        other.text()
        assert other.finish_reason == "length", "what has nothing to do with it goes on"


@pytest.mark.parametrize("then", ["cut", "finish"])
def test_a_revocation_by_another_process_reaches_what_is_under_way(
    shop: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    with opened(shop, monkeypatch, then) as project, Registry.open(project.settings.registry_place) as other:
        answer = begun(project, "prices")
        other.revoke("prices", answer.module.version, **BY)
        if then == "cut":
            with pytest.raises(ModuleRevoked):
                answer.text()
        else:
            answer.text()
            assert answer.finish_reason == "length"
        with pytest.raises(NoLiveVersion):
            project.ask("What?", module="prices")


def test_an_ancestor_that_is_revoked_cuts_what_stands_on_it(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(shop, monkeypatch, "cut") as project:
        child = begun(project, "shipping")
        assert len(project.revoke(project.registry.live("company"), **BY)) == 3
        with pytest.raises(ModuleRevoked, match="or what it stands on"):
            child.text()
        eventually_closed(project)


def test_answers_under_way_finish_by_default(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(shop, monkeypatch, "finish") as project:
        answer, digest = begun(project, "prices"), project.registry.live("prices").digest
        project.revoke(project.registry.live("prices"), **BY)
        with pytest.raises(NoLiveVersion):
            project.ask("What?", module="prices")
        assert len(answer.token_ids) < 600, "it is still on its way"
        answer.text()
        assert answer.finish_reason == "length"
        assert len(answer.token_ids) == 600
        with pytest.raises(NoLiveVersion, match="revoked"):
            project.ask("What?", module=f"prices@{answer.module.version}")
        assert digest == answer.module.digest
        answer = project.ask("What?", module="shipping", max_tokens=2)
        answer.text()


@pytest.mark.parametrize("then", ["cut", "finish"])
def test_who_read_the_registry_just_before_gets_nothing(shop: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    with opened(shop, monkeypatch, then) as project:
        answerer, asked = project.runtime.answerer, Question((Turn("user", "What?"),), module="prices", sampling=LONG)
        chain = project.registry.chain(project.registry.live("prices"))
        leased = answerer.prepare(asked, LOCAL)
        project.revoke(chain[-1], **BY)
        with pytest.raises(NoLiveVersion, match="is revoked"):
            answerer.pool.lease(chain, LOCAL)
        if then == "cut":
            with pytest.raises(ModuleRevoked):
                answerer.start(leased, lambda _: None)
        else:
            leased.release()
        eventually_closed(project)


def test_it_does_not_come_back_when_forgotten_and_built_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(shop, monkeypatch, "finish") as project:
        revoked = project.registry.live("shipping")
        project.revoke(revoked, **BY)
        report = project.build()
        assert report.withheld == {"shipping": f"{revoked.ref} is revoked: change its sources or layout"}
        project.registry.forget("shipping", revoked.version, **BY)
        again = project.build()
        assert (again.withheld, again.compiled) == (report.withheld, [])
        with pytest.raises(IllegalTransition, match="stays so though it was forgotten"):
            project.registry.register(revoked, **BY)
        (shop / "knowledge" / "shipping.md").write_text("Parcels leave on Fridays. " * 8)
        assert [ref.module_id for ref in project.build().published] == ["shipping"]


def eventually_closed(project: Project) -> None:
    """Nothing holds a lease in the end."""
    deadline = time.monotonic() + 10
    while project.runtime.pool.state().leases and time.monotonic() < deadline:
        time.sleep(0.01)
    assert project.runtime.pool.state().leases == 0
