"""The same question goes the same way every time, and the plan says why."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns.expressions import CHARACTERS, EXPRESSIONS, TEXTS

from quire.access import EVERYTHING, Reach
from quire.core import ModuleSpec, Plan, RouteSpec, Scope
from quire.router import NO_HINTS, Described, Hints, Router, Stages, build_table

PUBLIC = Scope("public")


def spec(name: str, *keywords: str, scope: Scope = PUBLIC, **route: object) -> ModuleSpec:
    declared = RouteSpec(keywords=keywords, **route)  # type: ignore[arg-type]
    return ModuleSpec(name, ("x.md",), None, name, "local", scope, declared)


def router(specs: Sequence[ModuleSpec], **stages: bool) -> Router:
    return Router(build_table(map(Described, specs), Stages(**{"classifier": False, "semantic": False, **stages})))


def names(plan: Plan) -> list[str]:
    return [candidate.module_id for candidate in plan.candidates]


SPECS = [
    spec("billing", "invoice", "refund", "VAT"),
    spec("shipping", "parcel", "refund"),
    spec("api", patterns=(r"/v\d+/\w+", r"\bstatus \d{3}\b")),
    spec("urgent", "refund", patterns=("fraud",), priority=5),
    spec("silent"),
]
ROUTER = router(SPECS[:3])


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
    plan = ROUTER.route(question, reach=EVERYTHING)
    assert (plan.module_id, plan.stage, plan.reason, plan.version) == (module, "rule", reason, None)
    assert plan.candidates[0].module_id == module
    assert plan.table == ROUTER.table.digest


def test_priority_goes_before_the_number_of_matches() -> None:
    plan = router(SPECS).route("refund my parcel", reach=EVERYTHING)
    assert (plan.module_id, plan.reason) == ("urgent", "matched keyword 'refund' at priority 5")
    assert names(plan) == ["urgent", "shipping", "billing"]


@pytest.mark.parametrize("question", ["", "parcels", "reinvoice", "unrelated", "v1/orders"])
def test_nothing_applies_and_the_plan_says_what_was_tried(question: str) -> None:
    plan = ROUTER.route(question, reach=EVERYTHING)
    assert (plan.module_id, plan.stage, plan.confidence, plan.candidates) == ("", "fallback", 0.0, ())
    assert plan.passed == (
        "explicit: the request gives no hint",
        "rule: no keyword, pattern or condition applies",
        "classifier: switched off",
        "semantic: switched off",
    )
    assert plan.reason == "; ".join(plan.passed)


@pytest.mark.parametrize(
    ("named", "module", "version"),
    [("billing", "billing", None), ("billing@1f3c", "billing", "1f3c"), ("unheard-of", "unheard-of", None)],
)
def test_a_module_that_is_named_wins_over_all_stages(named: str, module: str, version: str | None) -> None:
    plan = router(SPECS, explicit=False).route("parcel", module=named, reach=Reach())
    assert (plan.module_id, plan.version, plan.stage, plan.confidence) == (module, version, "explicit", 1.0)
    assert named in plan.reason


@pytest.mark.parametrize("word", ["c++", "a.b", "(x)", "日本", "Straße", "$", "İstanbul", "_", "a b", "--"])
def test_keywords_are_words_and_no_expressions(word: str) -> None:
    one = router([spec("it", word)])
    assert one.route(f"what is {word}?", reach=EVERYTHING).module_id == "it"
    assert one.route(f"what is x{word}x?", reach=EVERYTHING).module_id == ""


HINTED = [
    spec("returns", "refund", intents=("return", "exchange"), products=("anemometer",)),
    spec("repairs", intents=("repair",), states=("defective",)),
    spec("repairs-old", intents=("repair",), products=("barograph",)),
    spec("partners", metadata=(("channel", ("partner", "reseller")),)),
]


@pytest.mark.parametrize(
    ("hints", "module", "reason"),
    [
        (Hints(intent="return"), "returns", "the request says intent return"),
        (Hints(intent="repair"), "repairs", "the request says intent repair"),
        (Hints(intent="repair", product="barograph"), "repairs-old", "the request says intent repair, product barogr"),
        (Hints(intent="repair", state="defective"), "repairs", "the request says intent repair, state defective"),
        (Hints(metadata=(("channel", "reseller"),)), "partners", "the request says metadata channel reseller"),
        (Hints(product="anemometer", metadata=(("colour", "red"),)), "returns", "the request says product anemometer"),
    ],
)
def test_hints_lead_to_the_module_that_declares_most_of_them(hints: Hints, module: str, reason: str) -> None:
    plan = router(HINTED).route("whatever", hints=hints, reach=EVERYTHING)
    assert (plan.module_id, plan.stage) == (module, "explicit")
    assert plan.reason.startswith(reason)


def test_a_module_that_declares_otherwise_is_no_candidate() -> None:
    plan = router(HINTED).route("a refund", hints=Hints(intent="repair", product="anemometer"), reach=EVERYTHING)
    assert names(plan) == ["repairs"], "returns declares other intents, repairs-old another product"
    lost = router(HINTED).route("a refund", hints=Hints(intent="greet"), reach=EVERYTHING)
    assert (lost.module_id, lost.stage) == ("returns", "rule")
    assert lost.passed == ("explicit: no module is declared for intent greet",)


def test_conditions_limit_a_rule_or_are_one() -> None:
    specs = [
        spec("partner-prices", "price", when=(("channel", ("partner",)), ("region", ("eu", "uk")))),
        spec("prices", "price"),
        spec("vip", when=(("plan", ("gold",)),), priority=1),
    ]
    one = router(specs)

    def asked(**metadata: str) -> Plan:
        return one.route("the price?", hints=Hints(metadata=tuple(metadata.items())), reach=EVERYTHING)

    assert asked().module_id == asked(channel="partner").module_id == "prices"
    found = asked(channel="partner", region="uk")
    assert (found.module_id, names(found)) == ("partner-prices", ["partner-prices", "prices"])
    assert found.reason == "matched keyword 'price', metadata channel in partner, metadata region in eu, uk"
    assert asked(plan="gold", channel="partner").reason == "matched metadata plan in gold at priority 1"


def test_a_stage_that_is_off_decides_nothing() -> None:
    def asked(**stages: bool) -> Plan:
        return router(HINTED, **stages).route("refund", hints=Hints(intent="return"), reach=EVERYTHING)

    assert asked().stage == "explicit"
    plan = asked(explicit=False)
    assert (plan.stage, plan.passed) == ("rule", ("explicit: switched off",))
    assert asked(explicit=False, rules=False).stage == "fallback"


# Every scope is a partition: what cannot be read changes nothing.

SCOPES = [PUBLIC, Scope("tenant", "acme"), Scope("tenant", "ajax"), Scope("user", "acme/ann")]
QUESTION = st.lists(st.sampled_from(["refund", "Parcel", "fraud", "/v1/x", "status 404", "and", "İ", "?"])).map(
    " ".join
)
METADATA = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"])).map(lambda d: tuple(d.items()))
HINTS = st.builds(
    Hints,
    intent=st.none() | st.sampled_from(["x", "y"]),
    product=st.none() | st.sampled_from(["x", "y"]),
    metadata=METADATA,
)
CONDITIONS = st.dictionaries(
    st.sampled_from(["a", "b"]), st.lists(st.sampled_from(["1", "2"]), min_size=1, unique=True).map(tuple), max_size=2
).map(lambda d: tuple(sorted(d.items())))


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=2).map(tuple)


ROUTES = st.builds(
    RouteSpec,
    keywords=some("refund", "parcel", "status", "and"),
    patterns=some("fr?aud", r"/v\d+", r"status \d+", "refund|parcel"),
    when=CONDITIONS,
    priority=st.integers(0, 1),
    intents=some("x", "y"),
    products=some("x", "y"),
    metadata=CONDITIONS,
)
MODULES = st.lists(st.tuples(ROUTES, st.sampled_from(SCOPES)), min_size=1, max_size=8).map(
    lambda rows: [ModuleSpec(f"m{i}", ("x",), None, "t", "l", scope, route) for i, (route, scope) in enumerate(rows)]
)


@settings(max_examples=300, deadline=None)
@given(specs=MODULES, question=QUESTION, hints=HINTS, scopes=st.sets(st.sampled_from(SCOPES)))
def test_a_hidden_module_changes_nothing_in_a_plan(
    specs: list[ModuleSpec], question: str, hints: Hints, scopes: set[Scope]
) -> None:
    reach = Reach(frozenset(scopes))
    among_all = router(specs).route(question, hints=hints, reach=reach)
    alone = router([s for s in specs if s.scope in scopes]).route(question, hints=hints, reach=reach)
    assert without_table(among_all) == without_table(alone)
    assert {c.module_id for c in among_all.candidates} <= {s.module_id for s in specs if s.scope in scopes}


def without_table(plan: Plan) -> tuple[object, ...]:
    return plan.module_id, plan.stage, plan.reason, plan.confidence, plan.candidates, plan.passed


# The index finds what trying every rule finds.


def naive(specs: Sequence[ModuleSpec], question: str, hints: Hints) -> list[tuple[str, str]]:
    """Every module whose rule applies, best first, and why: each expression is tried, none is looked up."""
    metadata, found = dict(hints.metadata), []
    for order, one in enumerate(specs):
        route = one.route
        matched = [
            f"keyword {word!r}"
            for word in route.keywords
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", question, re.IGNORECASE)
        ]
        matched += [f"pattern {text!r}" for text in route.patterns if re.search(text, question, re.IGNORECASE)]
        holds = all(metadata.get(name) in values for name, values in route.when)
        if holds and (matched or (route.when and not route.keywords and not route.patterns)):
            matched += [f"metadata {name} in {', '.join(values)}" for name, values in route.when]
            suffix = f" at priority {route.priority}" if route.priority else ""
            rank = (-route.priority, -len(matched), order)
            found.append((rank, one.module_id, f"matched {', '.join(matched)}{suffix}"))
    return [(name, why) for _, name, why in sorted(found)]


RULES = st.lists(
    st.builds(
        RouteSpec,
        keywords=st.lists(st.text(CHARACTERS, min_size=1, max_size=4), max_size=3, unique=True).map(tuple),
        patterns=st.lists(EXPRESSIONS, max_size=2, unique=True).map(tuple),
        when=CONDITIONS,
        priority=st.integers(-1, 1),
    ),
    min_size=1,
    max_size=6,
).map(lambda routes: [ModuleSpec(f"m{i}", ("x",), None, "t", "l", PUBLIC, route) for i, route in enumerate(routes)])


@settings(max_examples=400, deadline=None)
@given(specs=RULES, question=TEXTS, metadata=METADATA)
def test_the_index_finds_what_trying_every_rule_finds(
    specs: list[ModuleSpec], question: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    hints = Hints(metadata=metadata)
    plan = router(specs, explicit=False).route(question, hints=hints, reach=EVERYTHING)
    assert [(c.module_id, c.reason) for c in plan.candidates] == naive(specs, question, hints)


def test_a_question_costs_a_rule_no_more_than_its_length() -> None:
    """An expression that took `re` 36 seconds for 1,500 characters, over the longest question that is read."""
    one = router([spec("it", patterns=(r".*refund.*order.*number.*\d{6}",))])
    question = "refund order number " * 75
    began = time.thread_time()
    assert one.route(question, reach=EVERYTHING).module_id == ""
    assert time.thread_time() - began < 5
    assert one.route(f"{question} 123456", reach=EVERYTHING).module_id == "it"


def test_of_a_long_question_the_ends_count() -> None:
    filler = "x " * 2000
    assert ROUTER.route(f"parcel {filler}", reach=EVERYTHING).module_id == "shipping"
    assert ROUTER.route(f"{filler} parcel", reach=EVERYTHING).module_id == "shipping"
    assert ROUTER.route(f"{filler} parcel {filler}", reach=EVERYTHING).module_id == ""
    assert Hints() == NO_HINTS
