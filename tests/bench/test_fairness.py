"""The report of `quire bench fairness` is complete and follows from what was measured. Never: how fair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.fairness import FLOOD


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, squad: Path) -> dict[str, Any]:
    work, file = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("report") / "fairness.json"
    arguments = ["fairness", "--model", str(tiny_model_dir), "--document", str(squad), "--work", str(work)]
    arguments += ["--repeat", "2", "--seconds", "1", "--sequences", "3", "--threads", "1", "--json", str(file)]
    done = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert list(work.iterdir()) == []
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for section in found["sections"].values():
        for figure in section:
            assert figure["name"] in done.output
    return found


def value(figures: dict[str, Any], section: str, name: str) -> float:
    (found,) = [f["value"] for f in figures["sections"][section] if f["name"] == name]
    return float(found)


def test_both_tenants_were_answered_in_both_phases(figures: dict[str, Any]) -> None:
    assert figures["benchmark"] == "fairness"
    assert value(figures, "load", "capacity") > 0
    for name in ("calm, measured", "calm, other", "flood, measured", "flood, other"):
        assert value(figures, "load", name) > 0


def test_the_flood_is_ten_shares(figures: dict[str, Any]) -> None:
    share = value(figures, "load", "capacity") / 2
    sent = {f["name"]: float(f["note"].split()[0]) for f in figures["sections"]["load"] if "sent" in f["note"]}
    assert sent["calm, measured"] == sent["flood, measured"], "the same arrivals"
    assert sent["calm, measured"] == pytest.approx(0.5 * share, rel=0.7)
    assert sent["flood, other"] == pytest.approx(FLOOD * share, rel=0.3)


@pytest.mark.parametrize("section", ["whole answer", "first token"])
def test_ratios_are_those_of_the_figures_above_them(figures: dict[str, Any], section: str) -> None:
    for percent in (50, 95):
        calm, flood = (value(figures, section, f"{name}, p{percent}") for name in ("calm", "flood"))
        assert value(figures, section, f"p{percent}, flood / calm") == pytest.approx(flood / calm)
    assert value(figures, section, "calm, p50") <= value(figures, section, "calm, p95")
