"""`quire bench route`: what it times is all there, and what it counts adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.routing.accuracy import ARMS, measure_accuracy
from quire.bench.routing.handbook import CHECKOUT_QUESTIONS, cut, read_handbook, split
from quire.bench.routing.made_up import SCOPES, make_up
from quire.bench.routing.speed import measure_speed
from quire.errors import InvalidSetting, SourceMalformed
from quire.router import Router, build_table
from quire.router.rules import index_rules

SHARED = Path(__file__).parents[3] / "shared" / "data" / "handbook"
PAGE = """# Bolts

A bolt costs three pounds. Bolts are made of steel or of brass.

## Delivery

Parcels leave at noon. The courier brings them on the third day.
"""
QUESTIONS = [
    {
        "module": "bolts",
        "page": "shop.md",
        "heading": "# Bolts",
        "title": "Bolts",
        "questions": ["What does a bolt cost?", "Are bolts made of brass?", "Is a bolt of steel?", "A bolt, how much?"],
    },
    {
        "module": "delivery",
        "page": "shop.md",
        "heading": "## Delivery",
        "title": "Delivery",
        "questions": ["When do parcels leave?", "Who brings parcels?", "On which day does a courier come?", "At noon?"],
    },
    {"module": "fallback", "questions": ["Who won?", "What is the moon made of?"]},
]


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    (tmp_path / "shop.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "questions.yaml").write_text(yaml.safe_dump(QUESTIONS), encoding="utf-8")
    return tmp_path


def test_every_stage_is_timed() -> None:
    report = measure_speed(120, 40, 20, lambda _: None)
    assert list(report.sections) == ["explicit", "rule", "classifier", "semantic", "all stages", "table"]
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    targets = {
        name: figures[2]["target"]["bound"] for name, figures in value["sections"].items() if "met" in figures[2]
    }
    assert targets == {"explicit": 1.0, "rule": 1.0, "classifier": 5.0}
    for figures in report.sections.values():
        assert all(figure.value > 0 for figure in figures)
    for name in ("explicit", "rule", "classifier", "semantic", "all stages"):
        values = [figure.value for figure in report.sections[name][:4]]
        assert values == sorted(values)


def test_what_is_made_up_is_the_same_every_time_and_exercises_every_stage() -> None:
    made = make_up(150, 60, 40)
    assert build_table(made.modules).digest == build_table(make_up(150, 60, 40).modules).digest
    table = build_table(made.modules)
    assert {module.scope for module in table.modules} <= set(SCOPES)
    index = index_rules(table.modules)
    assert len(index.modules) == 60
    assert any(clue.name.startswith("pattern") for clue in index.by_expression)
    assert any(len(text) > 1000 for text, _ in make_up(10, 0, 200).questions)
    Router(table)


def test_a_page_is_cut_at_its_headings_and_questions_are_split(pages: Path) -> None:
    handbook = read_handbook(pages, pages / "questions.yaml")
    assert [module.spec.module_id for module in handbook.modules] == ["bolts", "delivery"]
    assert "brass" in handbook.modules[0].texts[0]
    assert "courier" not in handbook.modules[0].texts[0]
    assert handbook.modules[1].texts[0].startswith("## Delivery")
    assert (handbook.examples, len(handbook.outside), len(handbook.test)) == (4, 1, 5)
    with pytest.raises(SourceMalformed):
        cut(PAGE, ["# Nuts"], "# Nuts", "shop.md")
    with pytest.raises(InvalidSetting):
        read_handbook(pages, pages / "nothing.yaml")


def test_the_halves_of_the_questions_are_fixed() -> None:
    """By the text of each question alone, so that no later choice can move one."""
    entries = yaml.safe_load(CHECKOUT_QUESTIONS.read_text(encoding="utf-8"))
    assert len(entries) == 15
    every = [question for entry in entries for question in entry["questions"]]
    assert len(set(every)) == len(every) == 160
    for entry in entries:
        examples, test = split(entry["questions"])
        assert split(entry["questions"][::-1]) == (examples, test)
        assert len(examples) == len(test) == len(entry["questions"]) // 2
        assert {*examples, *test} == set(entry["questions"])


def test_counts_add_up(pages: Path) -> None:
    report = measure_accuracy(read_handbook(pages, pages / "questions.yaml"))
    assert list(report.arms) == list(ARMS)
    for score in report.arms.values():
        assert score.right + score.wrong + score.abstained == score.covered == 4
        assert 0 <= score.outside_right <= score.outside == 1
    assert sum(count for count, _ in report.by_stage.values()) == 5
    assert report.arms["semantic, never abstaining"].abstained == 0
    assert report.arms["semantic alone"].right >= 2
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the handbook is not here")
def test_the_handbook_by_its_command(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    done = CliRunner().invoke(bench, ["route", "--handbook", str(SHARED), "--json", str(file)])
    assert done.exit_code == 0, done.output
    value = json.loads(file.read_text(encoding="utf-8"))
    assert (value["modules"], value["examples"], value["outside"]) == (14, 70, 10)
    arms = value["arms"]
    assert arms["all stages"]["covered"] == 70
    assert arms["all stages"]["right"] >= 40, "docs/routing.md says how many there were"
    assert arms["all stages"]["wrong"] <= 15
