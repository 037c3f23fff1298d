"""Routing and access together: a plan never leads to, or names, what its asker may not see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from quire import open_project
from quire.access import Principal
from quire.answering import NotCovered, Question
from quire.errors import ModuleUnknown, NoRoute

MakeProject = Callable[..., Path]
ACME = Principal("acme", "ann", roles=frozenset({"reader"}))
AJAX = Principal("ajax", "bo", roles=frozenset({"reader"}))
BOLT = Question(prompt="What does a bolt cost?")


@pytest.fixture
def root(project: MakeProject) -> Path:
    """One module, of the tenant acme, that a rule leads to."""
    made: Path = project({"prices": "A bolt costs 3 pounds."})
    file = made / "quire.toml"
    text = file.read_text(encoding="utf-8").replace('"public"', '"tenant:acme"')
    file.write_text(f'{text}[modules.prices.route]\nkeywords = ["bolt"]\nexamples = ["The price of a bolt?"]\n')
    return made


def test_what_is_hidden_is_as_if_it_were_not_there(root: Path) -> None:
    with open_project(root) as project:
        project.build()
        answerer = project.runtime.answerer
        plan, chain = answerer.route(BOLT, ACME)
        assert (plan.module_id, plan.stage, [link.module_id for link in chain]) == ("prices", "rule", ["prices"])
        hidden, nothing = answerer.route(BOLT, AJAX)
        assert (hidden.stage, nothing, hidden.candidates) == ("fallback", (), ())
        assert "prices" not in repr(hidden)
        told = answerer.consider(BOLT, AJAX)
        assert isinstance(told, NotCovered)
        assert "not covered" in told.text
        with pytest.raises(NoRoute):
            answerer.prepare(BOLT, AJAX)


def test_a_table_that_is_behind_shows_nothing_either(root: Path) -> None:
    """The table in force still has the module as public, the version that answers is a tenant's."""
    file = root / "quire.toml"
    narrow = file.read_text(encoding="utf-8")
    file.write_text(narrow.replace('"tenant:acme"', '"public"'), encoding="utf-8")
    with open_project(root) as project:
        project.build()
    file.write_text(narrow, encoding="utf-8")
    with open_project(root) as project:
        project.build()
        project.registry.routes.rollback(actor="test", reason="behind on purpose")
    with open_project(root) as project:
        answerer = project.runtime.answerer
        plan, chain = answerer.route(BOLT, AJAX)
        assert (plan.stage, chain) == ("fallback", ())
        assert "prices" not in repr(plan)
        assert [link.module_id for link in answerer.route(BOLT, ACME)[1]] == ["prices"]
        with pytest.raises(ModuleUnknown):
            answerer.route(Question(prompt="bolt", module="prices"), AJAX)
