"""After another layout a report says which golden answers are other than before, whatever the tests make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quire import open_project
from quire.registry import AuditFilter

QUESTIONS = ["What does a bolt cost?", "What does a nut cost?", "Who buys nuts?"]


def write_golden(shop: Path) -> None:
    (shop / "golden").mkdir()
    entries = [f"- question: {text}\n  not_contains: no such words, ever\n" for text in QUESTIONS]
    (shop / "golden" / "prices.yaml").write_text("".join(entries))


def change_layout(shop: Path, **changes: str) -> None:
    with open_project(shop) as project:
        definition = {**project.layout.definition(), "version": "2", **changes}
    (shop / "layout.toml").write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in definition.items()))
    toml = shop / "quire.toml"
    toml.write_text(f'{toml.read_text()}[layout]\nfile = "layout.toml"\n')


@pytest.mark.parametrize("asked_before", [True, False], ids=["tested before", "never tested"])
def test_golden_answers_old_against_new(shop: Path, asked_before: bool) -> None:
    if asked_before:
        write_golden(shop)
        with open_project(shop) as project:
            assert project.build().compared == []
    with open_project(shop) as project:
        old = project.registry.live("prices")
        before = [project.ask(q, module="prices", max_tokens=64).text().strip() for q in QUESTIONS]
        answer = project.layout.answer + "So: "
    if not asked_before:
        write_golden(shop)
    change_layout(shop, answer=answer)
    with open_project(shop) as project:
        report = project.build()
        new = project.registry.live("prices")
        (found,) = report.compared
        assert (found.before, found.after, found.triggers) == (old.version, new.version, ("parent", "layout"))
        after = [project.ask(q, module="prices", max_tokens=64).text().strip() for q in QUESTIONS]
        differing = [(q, b, a) for q, b, a in zip(QUESTIONS, before, after, strict=True) if b != a]
        assert differing, "or there is nothing to report"
        assert [(one.question, one.before, one.after) for one in found.changed] == differing
        assert all(one.passed_before and one.passed_after for one in found.changed)
        assert found.questions == 3
        (event,) = project.registry.audit.newest(AuditFilter(kinds=("invalidation.compared",)))
        assert event.details == {"before": old.version, "questions": 3, "changed": len(differing)}
        assert project.build().compared == []


def test_a_layout_that_asks_the_same_gives_the_same_answers(shop: Path) -> None:
    write_golden(shop)
    with open_project(shop) as project:
        project.build()
    change_layout(shop)  # another version alone
    with open_project(shop) as project:
        (found,) = project.build().compared
        assert (found.changed, str(found)) == ((), "3 of 3 golden answers are what they were")
