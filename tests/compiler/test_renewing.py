"""`ttl`: a version has its time, and a build gives it new time without computing anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quire import Project, Turn, open_project
from quire.access import LOCAL
from quire.answering import Question
from quire.errors import ModuleExpired

SetTTL = Callable[[str | None], None]


@pytest.fixture
def set_ttl(shop: Path) -> SetTTL:
    """A function that sets or removes the `ttl` of the module prices."""
    file = shop / "quire.toml"
    before = file.read_text()

    def write(ttl: str | None) -> None:
        line = f'[modules."prices"]\nttl = "{ttl}"' if ttl else '[modules."prices"]'
        file.write_text(before.replace('[modules."prices"]', line))

    return write


def expire(project: Project) -> None:
    """Let the time of the module prices be over."""
    live = project.registry.live("prices")
    past = datetime.now(UTC) - timedelta(seconds=1)
    project.registry.register(replace(live, expires_at=past), actor="test", reason="time passes")


def test_a_ttl_is_given_taken_and_shortened_without_computing(shop: Path, set_ttl: SetTTL) -> None:
    for ttl, days in (("30d", 30), ("2w", 14), (None, None)):
        set_ttl(ttl)
        with open_project(shop) as project:
            live = project.registry.live("prices")
            report = project.build()
            assert [ref.module_id for ref in report.renewed] == ["prices"]
            assert (report.compiled, report.reissued, report.published, project._model) == ([], [], [], None)
            renewed = project.registry.live("prices")
            assert renewed.digest == live.digest, "times are no part of the bytes"
            if days is None:
                assert renewed.expires_at is None
            else:
                assert renewed.expires_at
                left = renewed.expires_at - datetime.now(UTC)
                assert timedelta(days=days) - timedelta(minutes=1) < left <= timedelta(days=days)
            assert project.build().renewed == []


def test_what_is_over_does_not_answer_until_a_build_renews_it(shop: Path, set_ttl: SetTTL) -> None:
    set_ttl("30d")
    with open_project(shop) as project:
        project.build()
        expire(project)
        with pytest.raises(ModuleExpired, match=r"prices@\w+ expired at 20.* UTC") as refused:
            project.ask("What does a bolt cost?", module="prices")
        assert "quire build" in refused.value.hint
        (plan,) = [plan for plan in project.plan() if plan.action != "current"]
        assert (plan.action, [r.trigger for r in plan.reasons]) == ("renew", ["expired"])
        assert [ref.module_id for ref in project.build().renewed] == ["prices"]
        assert project.ask("What does a bolt cost?", module="prices", max_tokens=2).text()
        entry = project.registry.history("prices", 1)[0]
        assert (entry.action, entry.reason[:13]) == ("renew", "it expired at")


def test_what_is_over_and_changed_is_compiled(shop: Path, set_ttl: SetTTL) -> None:
    set_ttl("1h")
    with open_project(shop) as project:
        project.build()
        expire(project)
        (shop / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds.")
        report = project.build()
        assert ([r.module_id for r in report.compiled], report.renewed) == (["prices"], [])
        assert not project.registry.live("prices").expired


def test_a_session_ends_with_its_module(shop: Path, set_ttl: SetTTL) -> None:
    """An answer that was leased before the moment and begins after it does not begin."""
    set_ttl("6s")
    with open_project(shop) as project:
        answerer = project.runtime.answerer  # which loads the model, before the clock runs
        project.build()
        asked = project.ask("What does a bolt cost?", module="prices", max_tokens=2)
        assert asked.text()
        question = Question((Turn("user", "And a nut?"),), module="prices", session="one")
        leased = answerer.prepare(question, LOCAL)
        moment = project.registry.live("prices").expires_at
        assert moment
        time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()) + 0.01)
        with pytest.raises(ModuleExpired):
            answerer.start(leased, lambda item: None)
        with pytest.raises(ModuleExpired):
            answerer.prepare(question, LOCAL)
        assert project.runtime.pool.state().leases == 0
