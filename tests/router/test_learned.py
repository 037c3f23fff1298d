"""The classifier and the semantic stage: what they find, when they abstain, and that they are the same every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.access import EVERYTHING, Reach
from quire.core import Plan, Scope
from quire.router import Described
from quire.router.calibration import confidence, fit
from quire.router.features import example_features
from quire.router.postings import index_rows
from quire.router.reading import Reading
from quire.router.summary import MOST_PASSAGES, passages

from .making import described, router

RETURNS = (
    "How do I send something back?",
    "I want to return my order",
    "Can I give this back?",
    "Where do I return a faulty item?",
    "My order is wrong, I want to send it back",
)
DELIVERY = (
    "When does my order arrive?",
    "How long does delivery take?",
    "Is there express delivery?",
    "Do you deliver on Saturdays?",
    "When will the delivery arrive?",
)
OUTSIDE = ("Who won the cup?", "What is the weather like?", "Tell me a joke", "How old is the moon?")
MODULES = [
    described("returns", "Goods go back to the warehouse within thirty days.", examples=RETURNS),
    described("delivery", "Couriers bring parcels on weekdays. Express costs more.", examples=DELIVERY),
    described("stations", "# Calibration\n\nAn anemometer is calibrated in the wind tunnel every two years."),
]
ROUTER = router(MODULES, OUTSIDE)


def asked(question: str, reach: Reach = EVERYTHING) -> Plan:
    return ROUTER.route(question, reach=reach)


@pytest.mark.parametrize(
    ("question", "module"),
    [
        ("I want to send my order back", "returns"),
        ("how long does express delivery take", "delivery"),
        ("I WANT TO RETURN THIS ORDER", "returns"),
    ],
)
def test_a_question_like_the_examples_of_a_module_goes_there(question: str, module: str) -> None:
    plan = asked(question)
    assert (plan.module_id, plan.stage) == (module, "classifier")
    assert 0.5 <= plan.confidence <= 1
    assert plan.reason.startswith(f"most like the examples of {module}: similarity 0.")
    assert [c.stage for c in plan.candidates] == ["classifier", "classifier"], "stations has no examples"


def test_where_no_example_is_like_it_the_text_decides() -> None:
    plan = asked("How often is an anemometer calibrated in the tunnel?")
    assert (plan.module_id, plan.stage) == ("stations", "semantic")
    assert plan.reason.startswith("the best passage is one of stations: score ")
    assert "anemometer" in plan.candidates[0].reason
    assert "anemometer" not in plan.reason + "".join(plan.passed), "these go into the audit log, questions do not"
    assert "which is less than 0.50" in plan.passed[-1]


@pytest.mark.parametrize("question", ["Who won the football match?", "zzz", "?", "the", "How old is the sun?"])
def test_what_nobody_covers_is_left_to_the_fallback(question: str) -> None:
    plan = asked(question)
    assert plan.stage == "fallback"
    assert [text.partition(":")[0] for text in plan.passed] == ["explicit", "rule", "classifier", "semantic"]


def test_a_higher_threshold_abstains_more_and_a_stage_can_be_off() -> None:
    question = RETURNS[1]
    assert asked(question).stage == "classifier"
    strict = router(MODULES, OUTSIDE, classifier_confidence=1.0, semantic_confidence=1.0)
    assert strict.route(question, reach=EVERYTHING).stage == "fallback"
    off = router(MODULES, OUTSIDE, classifier=False, semantic=False).route(question, reach=EVERYTHING)
    assert off.passed[-2:] == ("classifier: switched off", "semantic: switched off")
    assert off.candidates == ()


def test_no_module_at_all() -> None:
    plan = asked("anything", Reach())
    assert plan.passed[-2:] == ("classifier: no module has examples", "semantic: there are no modules")
    assert router([]).route("anything", reach=EVERYTHING).stage == "fallback"


SCOPES = [Scope("public"), Scope("tenant", "acme"), Scope("user", "acme/ann"), Scope("tenant", "ajax")]
WORDS = st.lists(st.sampled_from(["refund", "order", "wind", "open", "the", "a", "when", "how"]), max_size=6)
SENTENCE = WORDS.map(" ".join)
KNOWLEDGE = st.lists(
    st.tuples(SENTENCE, st.lists(SENTENCE.filter(bool), max_size=4), st.sampled_from(SCOPES)), min_size=1, max_size=7
)


@settings(max_examples=150, deadline=None)
@given(
    knowledge=KNOWLEDGE,
    question=SENTENCE,
    outside=st.lists(SENTENCE, max_size=2),
    scopes=st.sets(st.sampled_from(SCOPES)),
)
def test_a_hidden_module_changes_no_score_and_no_confidence(
    knowledge: list[tuple[str, list[str], Scope]], question: str, outside: list[str], scopes: set[Scope]
) -> None:
    modules = [
        described(f"m{i}", text, scope=scope, examples=tuple(examples))
        for i, (text, examples, scope) in enumerate(knowledge)
    ]
    reach = Reach(frozenset(scopes))

    def plan(of: list[Described]) -> tuple[object, ...]:
        found = router(of, outside).route(question, reach=reach)
        return found.module_id, found.stage, found.reason, found.confidence, found.candidates, found.passed

    assert plan(modules) == plan([m for m in modules if m.spec.scope in scopes])


PROGRAM = """
import json, sys
from quire.access import EVERYTHING
from quire.core import ModuleSpec, RouteSpec, Scope
from quire.router import Described, Router, Stages, build_table
examples, text, outside = json.loads(sys.argv[1])
spec = ModuleSpec("m", ("x.md",), None, "m", "local", Scope("public"), RouteSpec(examples=tuple(examples)))
other = ModuleSpec("n", ("x.md",), None, "n", "local", Scope("public"), RouteSpec(examples=tuple(outside)))
described = [Described(spec, (text,)), Described(other, (text.split(". ")[0],))]
semantic = build_table(described, Stages(classifier=False, semantic_confidence=0), outside=outside)
plan = Router(semantic).route(" ".join(text.split()[::-1]), reach=EVERYTHING)
assert plan.stage == "semantic", plan
sys.stdout.write(f"{build_table(described, outside=outside).digest} {plan}")
"""


def test_training_and_routing_give_the_same_in_another_process() -> None:
    """Also where sets of strings come in another order."""
    given = json.dumps([RETURNS, MODULES[2].texts[0], OUTSIDE])
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, given],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1, printed


ROWS = st.lists(st.dictionaries(st.integers(0, 12), st.floats(0.125, 9, width=32), max_size=8), max_size=9)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, sought=st.dictionaries(st.integers(0, 14), st.floats(0.125, 9, width=32), max_size=8))
def test_the_index_scores_as_dense_vectors_do(rows: list[dict[int, float]], sought: dict[int, float]) -> None:
    def arrays(row: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
        return np.array(list(row), np.uint32), np.array(list(row.values()), np.float32)

    index = index_rows([arrays(row) for row in rows])
    terms, weights = arrays(sought)
    positions = index.find(terms)
    dense = [sum(row.get(term, 0) * weight for term, weight in sought.items()) for row in rows]
    np.testing.assert_allclose(index.scores(positions, weights), np.array(dense, np.float32), rtol=1e-5)
    assert index.spread_at(positions).tolist() == [sum(term in row for row in rows) for term in sought]
    for number, row in enumerate(rows):
        assert index.has(number, positions).tolist() == [term in row for term in sought]


def test_a_feature_of_very_many_rows_is_counted_but_costs_nothing() -> None:
    rows = [(np.array([1, 100 + i], np.uint32), np.ones(2, np.float32)) for i in range(100)]
    index = index_rows(rows)
    positions = index.find(np.array([1, 105], np.uint32))
    assert index.spread_at(positions).tolist() == [100, 1]
    assert index.scores(positions, np.ones(2, np.float32)).sum() == 1


def test_confidence_follows_the_share_of_right_answers() -> None:
    """What is right three times of four gets about that confidence; a better measurement never a smaller one."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, 2000)
    right = rng.uniform(0, 1, 2000) < 1 / (1 + np.exp(-(6 * x - 3)))
    fitted = fit((0.0, 0.0), [(v,) for v in x], right.tolist())
    for low, high in pairwise([0.0, 0.25, 0.5, 0.75, 1.0]):
        inside = (x >= low) & (x < high)
        told = float(np.mean([confidence(fitted, (v,)) for v in x[inside]]))
        assert abs(told - float(right[inside].mean())) < 0.06
    assert fit((1.0, 2.0), [], []).tolist() == [1.0, 2.0]


def test_features_do_not_depend_on_letter_case() -> None:
    one, two = (example_features(Reading(text).tokens) for text in ("An ORDER, an order", "an order an Order"))
    assert one[0].tolist() == two[0].tolist()
    assert one[1].tolist() == two[1].tolist()


def test_passages_begin_with_their_heading_and_are_bounded() -> None:
    text = (
        "# Prices\n\nA bolt costs 3.\n\n## Discounts\n\n" + "word " * 120 + "\n\nlast [link](https://example.org/a-b)"
    )
    found = passages("Shop", "What things cost.", [text])
    assert found[0] == "Shop\nWhat things cost."
    assert found[1] == "Prices\nA bolt costs 3."
    assert found[2].startswith("Discounts\nword word")
    assert found[3].startswith("Discounts\nlast [link")
    assert "example.org" not in found[3]
    assert len(passages("Shop", "", ["word\n\n" * 100_000])) <= MOST_PASSAGES
