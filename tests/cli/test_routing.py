"""`quire route` and `quire test`, as a person uses them one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import MakeProject, Quire

RULE = '\n[modules."prices".route]\nkeywords = ["bolt"]\nexamples = ["What does a nut cost?", "How dear is a nut?"]\n'


@pytest.fixture
def root(project: MakeProject) -> Path:
    """A project with two modules and rules for one of them; nothing is built."""
    made: Path = project(
        {"shipping": "Parcels leave at noon.", "prices": "A bolt costs 3 pounds. A nut costs 1 pound."}
    )
    with (made / "quire.toml").open("a", encoding="utf-8") as file:
        file.write(RULE)
    return made


def edit(root: Path, old: str, new: str) -> None:
    file = root / "quire.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_versions_of_the_table(quire: Quire, root: Path) -> None:
    here = ("--project", root)
    assert "no route table yet" in quire("route", "ls", *here).out
    assert quire("route", "show", *here).code == 8
    assert quire("route", "build", *here, "--json").json["unrouted"] == ["shipping", "prices"]
    built = quire("build", *here, "--json").json
    first = built["routes"].partition(":")[2][:12]
    assert quire("build", *here, "--json").json["routes"] is None
    assert quire("route", "build", *here, "--json").json["changed"] is False

    edit(root, '["bolt"]', '["bolt", "screw"]')
    second = quire("route", "build", "--reason", "screws too", *here, "--json").json["version"]
    assert quire("route", "explain", "a screw", *here, "--json").json["module"] == "prices"
    (difference,) = quire("route", "diff", first, second, *here, "--json").json["differences"]
    assert difference == {"module": "prices", "name": "keywords", "before": ["bolt"], "after": ["bolt", "screw"]}
    assert "+'screw'" in quire("route", "diff", first, *here).out

    told = quire("route", "rollback", "--reason", "no screws", *here)
    assert told.out.strip() == f"{first} is in force instead of {second}"
    assert quire("route", "explain", "a screw", *here, "--json").json["stage"] != "rule"
    tables = quire("route", "ls", *here, "--json").json["tables"]
    assert [(t["version"], t["change"], t["reason"]) for t in tables][:2] == [
        (first, "rollback", "no screws"),
        (second, "change", "screws too"),
    ]
    assert [t["in_force"] for t in tables] == [True, *[False] * (len(tables) - 1)]
    assert quire("route", "rollback", "--to", second, *here, "--json").json["version"] == second
    shown = quire("route", "show", *here, "--json").json
    assert shown["version"] == second
    assert shown["modules"]["prices"]["keywords"] == ["bolt", "screw"]
    kinds = [record["kind"] for record in quire("audit", "--kind", "route", *here, "--json").json["records"]]
    assert kinds[:2] == ["route.rollback", "route.rollback"]
    assert quire("route", "diff", "ffff", *here).code == 8


def test_explain(quire: Quire, root: Path) -> None:
    here = ("--project", root)
    edit(root, 'keywords = ["bolt"]', 'keywords = ["bolt"]\nintents = ["buy"]\nmetadata = { shop = "online" }')
    quire("build", *here)
    plan = quire("route", "explain", "a bolt", *here, "--json").json
    assert (plan["module"], plan["stage"], plan["reason"]) == ("prices", "rule", "matched keyword 'bolt'")
    assert plan["candidates"][0] == {"module": "prices", "stage": "rule", "score": 1.0, "reason": plan["reason"]}
    hinted = quire("route", "explain", "?", "--intent", "buy", "--metadata", "shop=online", *here, "--json").json
    assert (hinted["module"], hinted["stage"]) == ("prices", "explicit")
    named = quire("route", "explain", "?", "--module", "shipping", *here, "--json").json
    assert (named["module"], named["stage"]) == ("shipping", "explicit")
    lost = quire("route", "explain", "Who won the cup?", *here)
    assert lost.code == 0
    assert "not covered" in lost.out
    assert "classifier: most like the examples of prices" in lost.out
    assert quire("route", "explain", "?", "--metadata", "shop", *here).code == 2


def test_golden_questions(quire: Quire, root: Path) -> None:
    here = ("--project", root)
    quire("build", *here)
    assert quire("test", *here).code == 2
    golden = root / "golden" / "routes.yaml"
    golden.parent.mkdir()
    golden.write_text('- {question: "a bolt", module: prices}\n- {question: "The moon?", module: fallback}\n')
    passed = quire("test", *here)
    assert (passed.code, passed.out.splitlines()[-1]) == (0, "2 of 2 questions go where they should")
    golden.write_text('- {question: "a bolt", module: prices}\n- {question: "a bolt!", module: shipping}\n')
    failed = quire("test", *here)
    assert failed.code == 9
    assert "error: 1 of 2 golden questions go elsewhere" in failed.err
    value = quire("test", *here, "--json").json["routes"]
    assert value["confusion"] == {"prices": {"prices": 1}, "shipping": {"prices": 1}}
    assert value["by_stage"] == {"rule": {"questions": 2, "right": 1}}
    (missed,) = value["missed"]
    assert (missed["question"], missed["expected"], missed["module"]) == ("a bolt!", "shipping", "prices")
