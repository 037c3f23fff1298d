"""The example as `make demo` shows it, with the default model."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Quire

EXAMPLE = Path(__file__).parents[2] / "examples" / "skerrivane"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_answers_from_restored_modules(
    quire: Quire, smol_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_MODEL_HOME", str(smol_home))
    monkeypatch.setenv("QUIRE_STORE_PATH", str(tmp_path))
    told = quire("demo", EXAMPLE, "--json")
    assert told.code == 0, told.err
    questions = told.json["questions"]
    assert [q["module"] for q in questions] == [q["expected_module"] for q in questions]
    assert {q["verdict"] for q in questions} <= {"same", "near tie"}
    assert sum(q["right"] for q in questions) >= 0.75 * len(questions)
    assert sorted(q["ratio"] for q in questions)[len(questions) // 3] > 2, (
        "most of them: a machine may stop for a moment"
    )
    assert quire("fsck", "--project", EXAMPLE).code == 0
    tested = quire("test", "--project", EXAMPLE, "--json")
    assert tested.code == 0, tested.err
    assert {run["module"] for run in tested.json["modules"]} == {"company", "billing", "shipping", "api", "warranty"}


@pytest.mark.slow
@pytest.mark.processors
def test_a_new_project_passes_its_golden_tests(
    quire: Quire, smol_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_MODEL_HOME", str(smol_home))
    assert quire("init", tmp_path).code == 0
    built = quire("build", "--project", tmp_path, "--json")
    assert built.code == 0, built.err
    assert [run["green"] for run in built.json["tested"]] == [True]
