"""`quire demo`: each question both ways, and figures that follow from one another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .conftest import MakeProject, Quire

AVX2 = {"QUIRE_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
QUESTIONS = """
[[question]]
text = "How much is a bolt?"
module = "prices"
expect = ["3 pounds"]

[[question]]
text = "Is a bolt heavy?"
module = "prices"
expect = []

[[question]]
text = "What are the opening hours?"
module = "hours"
expect = []
"""


@pytest.fixture
def root(project: MakeProject) -> Path:
    root = project(
        {"company": "We sell bolts.", "prices": "A bolt costs 3 pounds. " * 8, "hours": "Open from nine to five."},
        parents={"prices": "company", "hours": "company"},
    )
    with (root / "quire.toml").open("a") as file:
        file.write('[modules.prices.route]\nkeywords = ["bolt"]\n[modules.hours.route]\nkeywords = ["hours"]\n')
    (root / "questions.toml").write_text(QUESTIONS)
    return root


def test_questions_are_answered_both_ways(quire: Quire, root: Path) -> None:
    told = quire("demo", root, "--tokens", 5, "--json")
    assert told.code == 0, told.err
    questions, summary = told.json["questions"], told.json["summary"]
    assert [(q["module"], q["tier"], q["verdict"]) for q in questions] == [
        ("prices", "cold", "same"),
        ("hours", "cold", "same"),
        ("prices", "warm", "same"),
    ]
    for question in questions:
        assert question["restored_seconds"] > question["restore_seconds"] > 0
        assert_fastest(question)
        assert question["ratio"] == pytest.approx(question["prefill_seconds"] / question["restored_seconds"])
    assert [(row["module"], row["questions"], row["same"]) for row in summary] == [
        ("prices", 2, 2),
        ("hours", 1, 1),
        (None, 3, 3),
    ]


def assert_fastest(
    question: dict[str, Any], ways: Sequence[str] = ("transformers in float32", "quire in float32")
) -> None:
    """All ways to a full prefill were tried, and the one compared with is the least of all that may be the fastest."""
    tried, measured = question["prefill_tried"], question["prefill_measured"]
    assert len(tried) == len(ways)
    assert all(any(name.startswith(way) for name in tried) for way in ways)
    assert question["prefill_left_out"] == {}
    assert set(measured) == {name for name, seconds in tried.items() if seconds <= 1.25 * min(tried.values())}
    assert question["prefill_seconds"] == measured[question["prefill_by"]] == min(measured.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_processor_that_emulates_bfloat16_is_compared_with_what_is_fast_there(
    smol_home: Path, tmp_path: Path, quire: Quire
) -> None:
    assert quire("init", tmp_path / "shop").code == 0
    (tmp_path / "shop" / "questions.toml").write_text(
        '[[question]]\ntext = "What are the opening hours of the library?"\nmodule = "example"\nexpect = []\n'
    )
    told = subprocess.run(
        [sys.executable, "-m", "quire", "demo", tmp_path / "shop", "--tokens", "4", "--json"],
        env={**os.environ, "QUIRE_MODEL_HOME": str(smol_home), **AVX2},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    (question,) = json.loads(told.stdout)["questions"]
    ways = ("transformers in bfloat16", "transformers in float32", "quire in bfloat16")
    assert_fastest(question, ways)
    assert question["prefill_by"] != "transformers in bfloat16"
    assert question["prefill_tried"]["transformers in bfloat16"] > 1.25 * question["prefill_seconds"]


def test_the_second_time_nothing_is_compiled(quire: Quire, root: Path) -> None:
    first = quire("demo", root, "--tokens", 3, "--questions", 2)
    assert "to compile" in first.out
    second = quire("demo", root, "--tokens", 3, "--questions", 2)
    assert "3 modules are up to date" in second.err
    assert second.out.count("by full prefill") == 2
    assert "expected 3 pounds" in second.out


def test_a_module_that_fails_its_golden_tests_is_named_before_anything_is_asked(quire: Quire, root: Path) -> None:
    (root / "golden").mkdir()
    (root / "golden" / "prices.yaml").write_text(
        'questions:\n- {question: "How much is a bolt?", contains: 7 crowns}\n'
    )
    told = quire("demo", root)
    assert told.code == 14
    assert "contains '7 crowns'" in told.out
    assert "withheld: prices" in told.err
    assert "by full prefill" not in told.out


@pytest.mark.parametrize("text", ["", "question = 3", "[[question]]\ntext = 3", "[[question]\n"])
def test_a_malformed_list_of_questions_is_named(quire: Quire, root: Path, text: str) -> None:
    (root / "questions.toml").write_text(text)
    refused = quire("demo", root)
    assert refused.code == 2
    assert "questions.toml" in refused.err
