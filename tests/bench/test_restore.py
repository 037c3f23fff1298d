"""The report is complete, its figures follow from each other, and the run leaves nothing behind. Never: how fast."""

from __future__ import annotations

import os
import statistics

import pytest

from .conftest import QUESTIONS, REPEAT, Run, children_of

pytestmark = pytest.mark.timeout(900)  # the run is the first test's, and starts processes on a machine that may be busy


def test_every_section_is_in_the_report_in_order(run: Run) -> None:
    assert list(run.figures["sections"]) == list(run.sections)
    assert all(run.figures["sections"].values())


def test_the_table_shows_every_figure_with_its_target(run: Run) -> None:
    figures = [f for section in run.figures["sections"].values() for f in section]
    assert [f["name"] for f in figures if f["name"] not in run.table] == []
    assert run.table.count("at least") + run.table.count("at most") == sum("target" in f for f in figures)


def test_the_machine_and_the_subject_are_named(run: Run) -> None:
    machine, document = run.figures["machine"], run.figures["document"]
    assert machine["threads"] == 1
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 1 << 28
    assert machine["copy_rate"] > 0
    assert machine["product_rate"] > 0
    assert {"torch", "transformers"} <= set(machine["libraries"])
    assert machine["cpu"] in run.table
    assert document["name"] == "Ostrel_Head"
    assert document["kv_bytes"] == document["tokens"] * run.figures["model"]["bytes_per_token"]
    assert run.figures["repeat"] == REPEAT


def test_values_are_the_medians_of_their_samples(run: Run) -> None:
    timed = [f for s in run.figures["sections"].values() for f in s if "samples" in f and f["unit"] != "logits"]
    assert len(timed) > 10
    for figure in timed:
        assert len(figure["samples"]) == REPEAT
        assert min(figure["samples"]) > 0
        assert figure["value"] == pytest.approx(statistics.median(figure["samples"]))


@pytest.mark.parametrize(
    ("section", "name", "above", "below"),
    [
        ("compile", "compile / transformers", "compile: ", "forward, transformers in float32"),
        ("compile", "prefill alone / transformers", "its prefill alone", "forward, transformers in float32"),
        ("decode", "quire / transformers", "quire, per token", "transformers generate"),
    ],
)
def test_ratios_are_those_of_the_figures_they_name(run: Run, section: str, name: str, above: str, below: str) -> None:
    expected = run.figure(section, above)["value"] / run.figure(section, below)["value"]
    assert run.figure(section, name)["value"] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "below"),
    [("full prefill / warm", "restored warm"), ("full prefill / cold, pages dropped", "restored cold, pages")],
)
def test_ratios_of_first_tokens_are_to_the_full_prefill(whole: Run, name: str, below: str) -> None:
    figures = whole.figures["sections"]["first-token"]
    prefilled = {f["name"]: f["value"] for f in figures if f["name"].startswith("full prefill, ")}
    ways = {found.partition(", ")[2] for found in prefilled} | {
        f["name"][7:] for f in figures if f["name"][:7] == "tried, "
    }
    assert sorted(way.partition(",")[0] for way in ways) == ["quire in float32", "transformers in float32"]
    expected = min(prefilled.values()) / whole.figure("first-token", below)["value"]
    assert whole.figure("first-token", name)["value"] == pytest.approx(expected)
    assert prefilled["full prefill, " + whole.figure("first-token", name)["note"]] == min(prefilled.values())


def test_met_says_what_value_and_target_say(run: Run) -> None:
    missed = []
    for section, figures in run.figures["sections"].items():
        for figure in (f for f in figures if "target" in f):
            bound, above = figure["target"]["bound"], figure["target"]["comparison"] == "at least"
            assert figure["met"] is (figure["value"] >= bound if above else figure["value"] <= bound)
            if not figure["met"]:
                missed.append(f"{section}: {figure['name']}")
    assert run.figures["missed"] == missed


def test_artifacts_of_growing_length_are_opened(run: Run) -> None:
    names = [f["name"] for f in run.figures["sections"]["open"] if f["name"].startswith("open ")]
    lengths = [int(name.split()[1].replace(",", "")) for name in names]
    assert lengths == sorted({256, 1024, 4096, 16_384, 65_536, run.figures["document"]["tokens"]})


@pytest.mark.slow
def test_opening_and_checking_are_part_of_a_cold_start(whole: Run) -> None:
    for ending in ("", ", pages dropped"):
        start = whole.figure("first-token", "restored cold, " + (ending[2:] or "new process"))["samples"]
        part = next(
            f for f in whole.figures["sections"]["first-token"] if f["name"] == f"of it opening and checking{ending}"
        )
        assert all(a < b for a, b in zip(part["samples"], start, strict=True))


def test_in_float32_restored_answers_are_those_of_the_full_prefill(run: Run) -> None:
    assert run.figure("agreement", "same 24 tokens restored")["value"] == QUESTIONS
    assert run.figure("agreement", "widest gap where they")["value"] == 0
    assert run.figure("agreement", "largest logit difference")["value"] < 1e-3
    assert "tokens agree" in run.figure("decode", "quire / transformers")["note"]


@pytest.mark.slow
def test_two_processes_share_the_pages_of_one_module(whole: Run) -> None:
    alone, second = whole.figure("memory", "one process")["value"], whole.figure("memory", "second of two")["value"]
    assert alone >= whole.figures["document"]["kv_bytes"] / 1e6
    assert second == pytest.approx(alone, rel=0.2)
    assert whole.figure("memory", "second, shared pages")["value"] > 90
    assert whole.figure("memory", "second, charged for")["value"] < 60


def test_nothing_is_left_behind(run: Run) -> None:
    assert list(run.work.iterdir()) == []
    assert children_of(os.getpid()) == []
