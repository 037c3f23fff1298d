"""`quire verify` and `quire fsck`: what is right is called right, what is broken is named and mended."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from quire.cli.verdict import Verdict, judge
from quire.compiler import Comparison

from .conftest import MakeProject, Quire

SOURCES = {"company": "We sell bolts.", "prices": "A bolt costs 3 pounds.", "hours": "Open from nine to five."}


@pytest.fixture
def root(quire: Quire, project: MakeProject) -> Path:
    root = project(SOURCES, parents={"prices": "company", "hours": "company"})
    assert quire("build", "--project", root).code == 0
    return root


def artifact(quire: Quire, root: Path, module: str) -> Path:
    digest = str(quire("show", module, "--json", "--project", root).json["digest"])
    return root / ".quire" / "artifacts" / digest.replace(":", "-")


def damage(directory: Path) -> None:
    file = directory / "kv-00000.safetensors"
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(8192)
        byte = opened.read(1)
        opened.seek(8192)
        opened.write(bytes([byte[0] ^ 1]))


def test_restored_modules_answer_as_the_full_prefill(quire: Quire, root: Path) -> None:
    found = quire("verify", "--tokens", 6, "--json", "--project", root)
    assert found.code == 0
    rows = found.json["verified"]
    assert [row["module"] for row in rows] == ["company", "hours", "prices"]
    assert {row["verdict"] for row in rows} == {"same"}
    assert all(row["largest_logit_difference"] < 1e-3 for row in rows)
    assert "6 of 6" in quire("verify", "prices", "--tokens", 6, "--project", root).out


@pytest.mark.parametrize(
    ("agreeing", "difference", "gap", "dtype", "verdict"),
    [
        (24, 0.4, 0.0, "bfloat16", "same"),
        (11, 0.4, 0.12, "bfloat16", "near tie"),
        (11, 0.4, 0.6, "bfloat16", "different"),
        (11, 1e-5, 1e-6, "float32", "different"),
        (24, 9.0, 0.0, "bfloat16", "different"),
        (24, math.nan, 0.0, "float32", "different"),
    ],
)
def test_near_ties_are_told_from_defects(
    agreeing: int, difference: float, gap: float, dtype: str, verdict: Verdict
) -> None:
    assert judge(Comparison(agreeing, 24, difference, gap, ()), dtype) == verdict


def test_every_kind_of_damage_is_named_and_mended(quire: Quire, root: Path) -> None:
    before = {m["module"]: m["digest"] for m in quire("ls", "--json", "--project", root).json["modules"]}
    damage(artifact(quire, root, "prices"))
    shutil.rmtree(artifact(quire, root, "hours"))
    shutil.copytree(artifact(quire, root, "company"), artifact(quire, root, "company").with_name("b3-" + "0" * 64))
    found = quire("fsck", "--json", "--project", root)
    assert found.code == 6
    problems = {problem["kind"]: problem for problem in found.json["problems"]}
    assert set(problems) == {"damaged", "missing", "orphaned"}
    assert problems["damaged"]["subject"].startswith("prices@")
    assert problems["missing"]["subject"].startswith("hours@")
    assert json.loads(found.err)["error"]["hint"] == "run `quire fsck --repair`"
    assert quire("ask", "Hello", "--module", "prices", "--project", root).code == 6
    mended = quire("fsck", "--repair", "--project", root)
    assert mended.code == 0, mended.out + mended.err
    assert "3 found, 0 left" in mended.out
    assert quire("fsck", "--json", "--project", root).json["problems"] == []
    assert {m["module"]: m["digest"] for m in quire("ls", "--json", "--project", root).json["modules"]} == before
    assert quire("ask", "Hello", "--module", "prices", "--max-tokens", 2, "--project", root).code == 0


def test_a_damaged_version_whose_sources_are_gone_is_reported(quire: Quire, root: Path) -> None:
    damage(artifact(quire, root, "prices"))
    (root / "knowledge" / "prices.md").unlink()
    left = quire("fsck", "--repair", "--json", "--project", root)
    assert left.code == 6
    assert [problem["subject"].split("@")[0] for problem in left.json["remaining"]] == ["prices"]


def test_a_live_module_that_nothing_can_compile_again_keeps_its_bytes(
    quire: Quire, root: Path, project: MakeProject
) -> None:
    """Its table is gone from quire.toml: a repair must not take the last copy, and must name the way out."""
    live = quire("show", "prices", "--json", "--project", root).json
    project({name: text for name, text in SOURCES.items() if name != "prices"}, parents={"hours": "company"})
    shard = artifact(quire, root, "prices") / "kv-00000.safetensors"
    shard.chmod(0o644)
    with shard.open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    left = quire("fsck", "--repair", "--json", "--project", root)
    assert left.code == 6
    assert [p["subject"] for p in left.json["remaining"]] == [f"prices@{live['version']}"]
    assert "quire retire" in left.json["remaining"][0]["remedy"]
    assert shard.exists()
    assert quire("retire", "prices", "--project", root).code == 0
    mended = quire("fsck", "--repair", "--json", "--project", root)
    assert mended.code == 0
    assert mended.json["forgotten"] == [f"prices@{live['version']}"]
