"""The same question goes the same way every time, and the plan says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import ModuleSpec, Scope
from quire.errors import NoRoute
from quire.router import Router


def spec(name: str, *keywords: str, patterns: tuple[str, ...] = (), priority: int = 0) -> ModuleSpec:
    return ModuleSpec(name, ("x.md",), None, name, "local", Scope("public"), keywords, patterns, priority)


SPECS = [
    spec("billing", "invoice", "refund", "VAT"),
    spec("shipping", "parcel", "refund"),
    spec("api", patterns=(r"/v\d+/\w+", r"\bstatus \d{3}\b")),
    spec("urgent", "refund", patterns=("fraud",), priority=5),
    spec("silent"),
]
ROUTER = Router(SPECS[:3])


@pytest.mark.parametrize(
    ("question", "module", "reason"),
    [
        ("Where is my PARCEL?", "shipping", "matched keyword 'parcel'"),
        ("Is vat on the invoice?", "billing", "matched keyword 'invoice', keyword 'VAT'"),
        ("What does GET /v1/orders return?", "api", r"matched pattern '/v\\d+/\\w+'"),
        ("a refund", "billing", "matched keyword 'refund'"),
        ("a refund for my parcel", "shipping", "matched keyword 'parcel', keyword 'refund'"),
    ],
)
def test_the_rule_with_most_matches_wins_then_the_order_of_declaration(question: str, module: str, reason: str) -> None:
    plan = ROUTER.route(question)
    assert (plan.module_id, plan.stage, plan.reason, plan.version) == (module, "rule", reason, None)
    assert plan.candidates[0] == module


def test_priority_goes_before_the_number_of_matches() -> None:
    plan = Router(SPECS).route("refund my parcel")
    assert (plan.module_id, plan.reason) == ("urgent", "matched keyword 'refund' at priority 5")
    assert plan.candidates == ("urgent", "shipping", "billing")


@pytest.mark.parametrize("question", ["", "parcels", "reinvoice", "unrelated", "v1/orders"])
def test_nothing_applies_and_the_error_says_what_could(question: str) -> None:
    with pytest.raises(NoRoute) as lost:
        ROUTER.route(question)
    assert "billing, shipping, api" in lost.value.hint
    with pytest.raises(NoRoute) as lost:
        Router([spec("silent")]).route(question)
    assert "none has rules" in lost.value.hint


@pytest.mark.parametrize(
    ("named", "module", "version"),
    [("billing", "billing", None), ("billing@1f3c", "billing", "1f3c"), ("unheard-of", "unheard-of", None)],
)
def test_a_module_that_is_named_wins_over_all_rules(named: str, module: str, version: str | None) -> None:
    plan = ROUTER.route("parcel", module=named)
    assert (plan.module_id, plan.version, plan.stage, plan.confidence) == (module, version, "explicit", 1.0)
    assert named in plan.reason


@pytest.mark.parametrize("word", ["c++", "a.b", "(x)", "日本", "Straße", "$"])
def test_keywords_are_words_and_no_expressions(word: str) -> None:
    router = Router([spec("it", word)])
    assert router.route(f"what is {word}?").module_id == "it"
    with pytest.raises(NoRoute):
        router.route(f"what is x{word}x?")


@settings(max_examples=200, deadline=None)
@given(question=st.text(max_size=60), order=st.permutations(SPECS))
def test_any_text_has_one_answer(question: str, order: list[ModuleSpec]) -> None:
    def route() -> object:
        try:
            return Router(order).route(question)
        except NoRoute as error:
            return error.message

    assert route() == route()
