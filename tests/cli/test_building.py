"""`quire init` and `quire build`: a build does what changed, says why, and can be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from .conftest import MakeProject, Quire

BOLTS = {"prices": "A bolt costs 3 pounds.", "hours": "Open from nine to five."}


def test_a_new_project_builds_and_answers(quire: Quire, tmp_path: Path, tiny_model_dir: Path) -> None:
    root = tmp_path / "My Shop"
    assert quire("init", root).code == 0
    text = (root / "quire.toml").read_text().replace("# [model]", "[model]").replace("# path", "path")
    (root / "quire.toml").write_text(text.replace("smollm2-135m-instruct", str(tiny_model_dir)))
    assert 'name = "my-shop"' in text
    assert quire("build", "--project", root).code == 14, "a random model does not know when the library is open"
    (root / "golden" / "example.yaml").unlink()
    assert quire("build", "--project", root).code == 0
    assert quire("ask", "What are the opening hours of the library?", "--project", root, "--max-tokens", 4).code == 0


def test_init_overwrites_nothing(quire: Quire, tmp_path: Path) -> None:
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "example.md").write_text("mine")
    refused = quire("init", tmp_path)
    assert refused.code == 2
    assert "example.md is there already" in refused.err
    assert (tmp_path / "knowledge" / "example.md").read_text() == "mine"
    assert not (tmp_path / "quire.toml").exists()


def test_a_dry_run_says_all_and_does_nothing(quire: Quire, project: MakeProject) -> None:
    root = project(BOLTS, parents={"prices": "hours"})
    plan = quire("build", "--dry-run", "--json", "--project", root).json["plan"]
    assert [(row["module"], row["action"], row["reasons"]) for row in plan] == [
        ("hours", "compile", ["new module"]),
        ("prices", "compile", ["new module"]),
    ]
    assert plan[1]["position_start"] == plan[0]["tokens"] > 0
    assert all(row["bytes"] == row["tokens"] * 2 * 2 * 2 * 16 * 4 for row in plan)
    assert all(row["estimated_seconds"] > 0 for row in plan)
    assert quire("ls", "--json", "--project", root).json == {"modules": [], "not_compiled": ["hours", "prices"]}


def test_only_what_changed_is_compiled_again(quire: Quire, project: MakeProject) -> None:
    root = project(BOLTS)
    first = quire("build", "--json", "--project", root).json
    assert [ref["module"] for ref in first["compiled"]] == ["prices", "hours"]
    assert quire("build", "--json", "--project", root).json["compiled"] == []
    project({**BOLTS, "prices": "A bolt costs 4 pounds."})
    again = quire("build", "--json", "--project", root).json
    assert [ref["module"] for ref in again["compiled"]] == ["prices"]
    assert [row["reasons"] for row in again["plan"]] == [["source changed: knowledge/prices.md"], []]


def test_people_get_a_table_and_notes(quire: Quire, project: MakeProject) -> None:
    told = quire("build", "--project", project(BOLTS))
    assert "new module" in told.out
    assert "compiled 2, published 2" in told.out
    assert "compiling prices" in told.err


def test_errors_are_named_with_a_next_step(quire: Quire, project: MakeProject, tmp_path: Path) -> None:
    root = project(BOLTS)
    unknown = quire("build", "price", "--project", root)
    assert (unknown.code, unknown.out) == (8, "")
    assert unknown.err == "error: no module 'price' in this project\nhint: did you mean 'prices'?\n"
    as_json = json.loads(quire("build", "price", "--json", "--project", root).err)
    assert as_json["error"]["code"] == "module_unknown"
    assert as_json["error"]["exit_code"] == 8
    nowhere = quire("build", "--project", tmp_path / "nowhere")
    assert nowhere.code == 2
    assert "hint: run `quire init`" in nowhere.err


def test_a_document_beyond_the_context_is_refused_with_the_counts(quire: Quire, project: MakeProject) -> None:
    refused = quire("build", "--project", project({"long": "A bolt costs 3 pounds. " * 900}))
    assert refused.code == 5
    assert "the model's context is 2048" in refused.err
    assert "--split headings" in refused.err


def test_an_interrupted_build_keeps_what_is_finished(quire: Quire, project: MakeProject) -> None:
    text = "A bolt costs 3 pounds. " * 150
    root = project({f"part-{n}": f"{n} {text}" for n in range(12)}, **{"build.prefill_chunk": 16})
    command = [sys.executable, "-c", "from quire.cli import main; main()", "build", "--project", str(root)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as build:
        assert build.stderr is not None
        for line in build.stderr:
            if line.startswith("compiled"):
                build.send_signal(signal.SIGINT)
                break
        said = build.stderr.read()
    assert build.returncode == 130
    assert "error: stopped while compiling" in said
    kept = quire("ls", "--json", "--project", root).json["modules"]
    assert 0 < len(kept) < 12
    assert {module["state"] for module in kept} == {"candidate"}
    done = quire("build", "--json", "--project", root).json
    assert len(done["compiled"]) == 12 - len(kept)
    assert len(done["published"]) == 12
    assert quire("fsck", "--project", root).code == 0
