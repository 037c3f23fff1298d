"""What the audit log says about questions: the decision always, the words only where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from queue import SimpleQueue

import pytest

from quire import Turn, open_project
from quire.access import Principal
from quire.answering import NotCovered, Question
from quire.core import Delta, Sampling
from quire.errors import ModuleUnknown, QuireError
from quire.registry import AuditFilter, AuditRecord
from quire.router import Hints

ANN = Principal("acme", "ann", roles=frozenset({"reader"}))
ASKED = Question((Turn("user", "What does a secret bolt cost?"),), module="prices", sampling=Sampling(max_tokens=8))


def asked(shop: Path, *questions: Question, answer: bool = False) -> tuple[list[AuditRecord], str]:
    """The records that asking leaves behind, oldest first, and the answer to the last question if it is wanted."""
    with open_project(shop) as project:
        text, before = "", project.registry.audit.head().records
        for question in questions:
            project.runtime.answerer.consider(question, ANN).release()
        if answer:
            text = project.runtime.answerer.ask(questions[-1], ANN).text()
        live = project.registry.live("prices")
    with open_project(shop) as project:
        kinds = AuditFilter(kinds=("route", "answer", "access"))
        records = [r for r in project.registry.audit.each(kinds) if r.sequence > before]
        assert all(r.digest in (live.digest, "") for r in records)
        assert project.registry.audit.verify().findings == ()
    return records, text


def test_every_decision_is_recorded_without_a_word_of_the_question(shop: Path) -> None:
    nobody = Question((Turn("user", "Who painted the secret Mona Lisa?"),))
    records, _ = asked(shop, ASKED, nobody)
    said = [(r.kind, r.who, r.tenant, r.module, r.what.partition("@")[0]) for r in records]
    assert said == [
        ("route.decision", "acme/ann", "acme", "prices", "prices"),
        ("route.decision", "acme/ann", "acme", None, "no module"),
    ]
    assert all(r.why and r.details["stage"] for r in records)
    assert "secret" not in json.dumps([r.as_json() for r in records])


def test_a_reason_of_any_length_is_recorded(shop: Path) -> None:
    hints = Hints(intent="i" * 256, metadata=tuple((f"{i}", "v" * 256) for i in range(32)))
    ((record,), _) = asked(shop, Question((Turn("user", "Who painted the secret Mona Lisa?"),), hints=hints))
    assert record.why.startswith("explicit: no module is declared for intent iii")
    assert len(record.why) == 1000


def test_words_are_recorded_where_they_are_asked_for(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_AUDIT_TEXTS", "true")
    records, text = asked(shop, ASKED, answer=True)
    (given,) = [r for r in records if r.kind == "answer.given"]
    assert given.details == {"question": "What does a secret bolt cost?", "answer": text}


def test_a_share_of_the_decisions_is_recorded(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_AUDIT_ROUTES", "0.25")
    kept, _ = asked(shop, *[ASKED] * 300)
    assert 35 <= len(kept) <= 120, "0.25 of 300, within five standard deviations"
    monkeypatch.setenv("QUIRE_AUDIT_ROUTES", "0")
    assert asked(shop, ASKED)[0] == []


def test_a_denial_is_recorded_when_the_project_closes(shop: Path) -> None:
    with open_project(shop) as project, pytest.raises(ModuleUnknown):
        project.runtime.answerer.consider(Question((Turn("user", "Why?"),), module="payroll-of-bob"), ANN)
    with open_project(shop) as project:
        (denied,) = project.registry.audit.newest(AuditFilter(kinds=("access.denied",)), 1)
        assert (denied.who, "payroll-of-bob" in denied.what) == ("acme/ann", True)


def test_no_words_are_lost_where_few_decisions_are_recorded(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_AUDIT_TEXTS", "true")
    monkeypatch.setenv("QUIRE_AUDIT_ROUTES", "0")
    told: SimpleQueue[Delta | QuireError] = SimpleQueue()
    with open_project(shop) as project:
        before = project.registry.audit.head().records
        nobody = project.runtime.answerer.consider(Question((Turn("user", "Who painted the Mona Lisa?"),)), ANN)
        assert isinstance(nobody, NotCovered)
        nobody.tell(told.put)
        answer = project.runtime.answerer.ask(ASKED, ANN)
        text = answer.text()
    with open_project(shop) as project:
        kinds = AuditFilter(kinds=("route.decision", "answer"))
        records = [r for r in project.registry.audit.each(kinds) if r.sequence > before]
    assert [(r.kind, r.details["question"], r.details["answer"]) for r in records] == [
        ("answer.given", "Who painted the Mona Lisa?", nobody.text),
        ("answer.given", "What does a secret bolt cost?", text),
    ]
    assert [(r.what, r.module) for r in records] == [("no module", None), (str(answer.module.ref), "prices")]
