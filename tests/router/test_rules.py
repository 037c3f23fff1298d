"""The same question goes the same way every time, and the plan says why."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.access import EVERYTHING, Reach
from quire.core import ModuleSpec, Plan, RouteSpec, Scope
from quire.errors import InvalidSetting
from quire.patterns import fold, runaway
from quire.router import NO_HINTS, Described, Hints, Router, Stages, build_table
from quire.router.literals import needs_digit, required_literals

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


LETTERS = "abkiß sıİKſSµ.-_é1"
TEXT = st.text(LETTERS, max_size=30)


def expressions() -> st.SearchStrategy[str]:
    atom = st.sampled_from([*"abkiszµé1 ", r"\d", r"\w", r"\b", ".", "[ab]", "[^k]", r"\.", r"\s", "$", "^"])

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        repeated = st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{1,3}", "+?", "{0,2}"]))
        return (
            st.lists(inner, min_size=1, max_size=4).map("".join)
            | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})")
            | repeated.map(lambda pair: f"(?:{pair[0]}){pair[1]}")
            | inner.map(lambda text: f"({text})")
            | inner.map(lambda text: f"(?={text})")
            | inner.map(lambda text: f"(?!{text})")
            | inner.map(lambda text: f"(?<={text})")
            | inner.map(lambda text: f"(?<!{text})")
        )

    return st.recursive(atom, grown, max_leaves=8).filter(usable)


def usable(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return runaway(pattern) is None


RULES = st.lists(
    st.builds(
        RouteSpec,
        keywords=st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=3, unique=True).map(tuple),
        patterns=st.lists(expressions(), max_size=2, unique=True).map(tuple),
        when=CONDITIONS,
        priority=st.integers(-1, 1),
    ),
    min_size=1,
    max_size=6,
).map(lambda routes: [ModuleSpec(f"m{i}", ("x",), None, "t", "l", PUBLIC, route) for i, route in enumerate(routes)])


@settings(max_examples=400, deadline=None)
@given(specs=RULES, question=TEXT, metadata=METADATA)
def test_the_index_finds_what_trying_every_rule_finds(
    specs: list[ModuleSpec], question: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    hints = Hints(metadata=metadata)
    plan = router(specs, explicit=False).route(question, hints=hints, reach=EVERYTHING)
    assert [(c.module_id, c.reason) for c in plan.candidates] == naive(specs, question, hints)


@settings(max_examples=400, deadline=None)
@given(pattern=expressions(), text=TEXT)
def test_every_match_contains_a_literal_that_was_said_to_be_required(pattern: str, text: str) -> None:
    literals = required_literals(pattern)
    if re.search(pattern, text, re.IGNORECASE):
        assert not literals or any(literal in fold(text) for literal in literals), literals
        assert not needs_digit(pattern) or re.search(r"\d", text)


def test_literals_are_found_where_there_are_some() -> None:
    assert required_literals(r"\brefund(s|ed)?\b") == {"refund"}
    assert required_literals(r"(?:cancel|terminate)\s+\w+") == {"cancel", "terminate"}
    assert required_literals(r"status \d{3}") == {"status "}
    assert required_literals(r"\d+[a-z]*") == frozenset()
    assert [needs_digit(p) for p in (r"\b\d{5}\b", r"(a[0-9]|\d+)", r"a\d*", r"[\da]", r"\d|x")] == [
        True,
        True,
        *[False] * 3,
    ]


def test_folding_is_that_of_the_expressions() -> None:
    """What folds alike is what `re` takes for one, over all of Unicode but U+0345; no letter stops being one."""
    every = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000 and point != 0x345)
    by_fold: dict[str, set[str]] = {}
    for character in every:
        by_fold.setdefault(fold(character), set()).add(character)
    groups = [group for group in by_fold.values() if len(group) > 1]
    assert len(groups) > 1300
    for group in groups:
        assert len({character.isalnum() for character in group}) == 1, group
    for group in random.Random(1).sample(groups, 25):
        for one in group:
            assert set(re.findall(re.escape(one), every, re.IGNORECASE)) == group


RUNAWAYS = [r"(a+)+$", r"(\w+\s?)*x", r"(a|aa)+", r"(\w\w|\d)*!", r"(?:(?:x+)y?)*z", r"(.*)*", r"(a{1,99}b?){1,99}"]


@pytest.mark.parametrize("pattern", RUNAWAYS)
def test_an_expression_that_may_run_away_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidSetting, match="exponential"):
        router([spec("it", patterns=(pattern,))])


@pytest.mark.parametrize("pattern", [r"(?:,\d+)*", r"\w+@\w+\.\w+", r"(?:refunds?|returns?)+", r"(?:ab+)*", r".*x.*"])
def test_harmless_repetition_is_not(pattern: str) -> None:
    assert runaway(pattern) is None
    began = time.perf_counter()
    re.search(pattern, "ab" * 1000, re.IGNORECASE)
    assert time.perf_counter() - began < 1


def test_of_a_long_question_the_ends_count() -> None:
    filler = "x " * 2000
    assert ROUTER.route(f"parcel {filler}", reach=EVERYTHING).module_id == "shipping"
    assert ROUTER.route(f"{filler} parcel", reach=EVERYTHING).module_id == "shipping"
    assert ROUTER.route(f"{filler} parcel {filler}", reach=EVERYTHING).module_id == ""
    assert Hints() == NO_HINTS
