"""The route table as a document: what it says, that it reads back, what changed, and what is not one."""

from __future__ import annotations

import json

import pytest

from quire.access import EVERYTHING
from quire.core import Scope
from quire.errors import InvalidSetting, RouteTableInvalid
from quire.router import Router, RouteTable, Stages, build_table, differences

from .making import described

TENANT = Scope("tenant", "acme")
MODULES = [
    described("billing", "Invoices are due.", keywords=("invoice",), examples=("When is it due?", "Whom do I pay?")),
    described(
        "inner", "Salaries.", scope=TENANT, patterns=(r"\bpay\b",), when=(("channel", ("hr", "it")),), priority=2
    ),
    described("plain"),
]
TABLE = build_table(MODULES, Stages(rules=False, semantic_confidence=0.75), ["Who won?"])


def test_a_table_reads_back_as_it_was_and_routes_alike() -> None:
    again = RouteTable.parse(TABLE.document, TABLE.weights)
    assert again == TABLE
    assert again.digest == TABLE.digest
    for question in ("When is it due?", "salaries", "pay"):
        assert Router(again).route(question, reach=EVERYTHING) == Router(TABLE).route(question, reach=EVERYTHING)


def test_the_document_is_canonical_and_says_what_is_declared() -> None:
    values = json.loads(TABLE.document)
    assert json.dumps(values, separators=(",", ":"), sort_keys=True, ensure_ascii=False) == TABLE.document
    assert list(values["modules"]) == ["billing", "inner", "plain"]
    assert values["modules"]["inner"]["when"] == [["channel", ["hr", "it"]]]
    assert "keywords" not in values["modules"]["plain"]
    assert values["stages"]["semantic_confidence"] == 0.75


def test_the_same_declarations_are_the_same_table_and_every_other_is_another() -> None:
    assert build_table(MODULES, TABLE.stages, ["Who won?"]) == TABLE
    others = [
        build_table(MODULES, Stages(rules=False), ["Who won?"]),
        build_table(MODULES, TABLE.stages, ["Who lost?"]),
        build_table(MODULES[::-1], TABLE.stages, ["Who won?"]),
        build_table([*MODULES[:2], described("plain", "A text.")], TABLE.stages, ["Who won?"]),
        build_table([*MODULES[:2], described("plain", scope=TENANT)], TABLE.stages, ["Who won?"]),
    ]
    assert len({TABLE.digest, *(table.digest for table in others)}) == 6


@pytest.mark.parametrize(
    ("document", "weights"),
    [
        ("", TABLE.weights),
        ("[]", TABLE.weights),
        ("{}", TABLE.weights),
        (TABLE.document.replace('"format":1', '"format":2'), TABLE.weights),
        (TABLE.document.replace('"priority":2', '"priority":3 '), TABLE.weights),
        (TABLE.document.replace('"keywords"', '"keyword"'), TABLE.weights),
        (TABLE.document.replace('"order":1', '"order":"x"'), TABLE.weights),
        (TABLE.document, TABLE.weights[:-1]),
        (TABLE.document, b""),
    ],
)
def test_what_is_no_table_is_refused(document: str, weights: bytes) -> None:
    with pytest.raises(RouteTableInvalid):
        RouteTable.parse(document, weights)


def test_weights_that_do_not_fit_are_refused() -> None:
    table = RouteTable(TABLE.modules, weights=build_table(MODULES[2:]).weights)
    with pytest.raises(RouteTableInvalid):
        Router(table)


def test_a_pattern_that_is_not_linear_makes_no_table() -> None:
    with pytest.raises(InvalidSetting, match="looks ahead"):
        build_table([described("it", patterns=("a(?=b)",))])


def test_differences_are_said_by_module_and_name() -> None:
    after = build_table(
        [
            described("billing", "Invoices are overdue.", keywords=("invoice", "bill"), examples=("Whom do I pay?",)),
            described("inner", "Salaries.", patterns=(r"\bpay\b",), priority=3),
            described("new"),
        ],
        TABLE.stages,
        ["Who won?"],
    )
    said = [(one.subject, one.name, str(one)) for one in differences(TABLE, after)]
    assert said == [
        ("billing", "examples", "-'When is it due?'"),
        ("billing", "keywords", "+'bill'"),
        ("billing", "text", "its text changed"),
        ("inner", "priority", "2 -> 3"),
        ("inner", "scope", "{'kind': 'tenant', 'owner': 'acme'} -> {'kind': 'public', 'owner': ''}"),
        ("inner", "when", "-['channel', ['hr', 'it']]"),
        ("plain", "module", "routed -> nothing"),
        ("new", "module", "nothing -> routed"),
    ]
    assert differences(TABLE, TABLE) == []
    (changed,) = differences(TABLE, build_table(MODULES, Stages(semantic_confidence=0.75), ["Who won?"]))
    assert (changed.subject, changed.name, str(changed)) == ("", "rules", "False -> True")
