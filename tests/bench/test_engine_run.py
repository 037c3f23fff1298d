"""One short run of `quire bench engine` on the tiny model. Its figures follow from each other. Never: how fast."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.engine import rounds
from quire.bench.engine.environment import VLLM, bench_home
from quire.bench.engine.requests import TOKENS
from quire.bench.engine.rounds import FEW

from .conftest import Run, children_of

# The run is the first test's, and starts processes on a machine that may be busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LEVELS, REPEAT = (1, 6), 2
HERE = ("quire", "transformers")  # arms that need no environment of their own


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, with_pip: Path) -> Path:
    """Where the benchmark is at home, with the beginning of an environment for vLLM."""
    found = tmp_path_factory.mktemp("engine")
    shutil.copytree(with_pip, found / "quire" / "bench" / VLLM.replace("==", "-") / "env", symlinks=True)
    return found


@pytest.fixture(scope="module")
def ran(directory: Path, tiny_model_dir: Path, squad: Path) -> Run:
    """All arms; vLLM's environment cannot be made, because pip finds no packages."""
    (directory / "work").mkdir()
    arguments = [*asked(tiny_model_dir, squad), "--repeat", str(REPEAT), "--pip-flags", "--no-index"]
    arguments += ["--work", str(directory / "work"), "--json", str(directory / "engine.json")]
    arguments += ["--plot", str(directory / "engine.svg"), "--concurrency", ",".join(map(str, LEVELS))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "SETTLE", 0.0)  # nothing here says how fast
        result = CliRunner(env=surroundings(directory)).invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (line,) = (directory / "engine.json").read_text(encoding="utf-8").splitlines()
    return Run(result.stdout, json.loads(line), directory / "work")


def asked(model: Path, document: Path) -> list[str]:
    return ["engine", "--model", str(model), "--document", str(document), "--threads", "1"]


def surroundings(directory: Path) -> dict[str, str | None]:
    """The benchmark's home in `directory`, with the kernels that were built before, and a pip without any packages."""
    built = bench_home().with_name("kernels")
    (directory / "quire").mkdir(exist_ok=True)
    if built.is_dir() and not (directory / "quire" / "kernels").exists():
        (directory / "quire" / "kernels").symlink_to(built)
    return {"XDG_CACHE_HOME": str(directory), "PIP_FIND_LINKS": None, "PIP_CONFIG_FILE": "/dev/null"}


def of(ran: Run, level: int, arm: str) -> dict[str, Any]:
    (found,) = [entry for entry in ran.figures["levels"] if entry["concurrency"] == level]
    entry: dict[str, Any] = found["arms"][arm]
    return entry


def test_every_arm_that_lives_answers_at_every_level(ran: Run) -> None:
    assert [entry["concurrency"] for entry in ran.figures["levels"]] == list(LEVELS)
    for entry in ran.figures["levels"]:
        assert list(entry["arms"]) == list(HERE)
        for arm in entry["arms"].values():
            assert len(arm["repetitions"]) == REPEAT
            assert all(len(r["first_token_seconds"]) == entry["concurrency"] for r in arm["repetitions"])


def test_an_arm_without_its_environment_is_reported_and_the_others_go_on(ran: Run) -> None:
    ended = ran.figures["arms"]["vllm"]["ended"]
    assert "environment for vLLM could not be made" in ended
    assert f"vllm ended: {ended[:60]}" in ran.table
    assert [ran.figures["arms"][arm]["ended"] for arm in HERE] == [None, None]


def test_values_are_the_medians_of_the_repetitions(ran: Run) -> None:
    for level in LEVELS:
        for arm in HERE:
            found = of(ran, level, arm)
            for metric, value in found["median"].items():
                samples = [repetition[metric] for repetition in found["repetitions"]]
                assert value == pytest.approx(statistics.median(samples)), metric
                assert min(samples) > 0


def test_transformers_answers_a_few_and_is_scaled_and_the_table_says_so(ran: Run) -> None:
    assert {r["measured_requests"] for r in of(ran, 6, "transformers")["repetitions"]} == {FEW}
    assert {r["measured_requests"] for r in of(ran, 6, "quire")["repetitions"]} == {6}
    assert f"one after another, from {FEW}" in ran.table


@pytest.mark.parametrize(
    ("section", "metric"),
    [
        ("tokens/s", "tokens_per_second"),
        ("tokens/s, decoding alone", "decode_tokens_per_second"),
        ("first token, document ready", "first_token_ms_p50"),
    ],
)
def test_ratios_are_those_of_the_medians(ran: Run, section: str, metric: str) -> None:
    for level in LEVELS:
        above, below = (of(ran, level, arm)["median"][metric] for arm in HERE)
        figure = ran.figure(section, f"quire / transformers, {level} at once")
        assert figure["value"] == pytest.approx(above / below)


def test_a_restart_costs_one_arm_a_prefill_and_the_other_its_files(ran: Run) -> None:
    seconds = ran.figures["restart_seconds"]
    assert {arm: len(found) for arm, found in seconds.items()} == dict.fromkeys(HERE, REPEAT)
    figure = ran.figure("first token after a restart", "transformers / quire, of the machine")
    theirs, ours = (statistics.median(seconds[arm]) for arm in ("transformers", "quire"))
    assert figure["value"] == pytest.approx(theirs / ours)
    kept = ran.figures["kept_restart_seconds"]
    assert len(kept) == REPEAT
    figure = ran.figure("first token after a restart", "transformers / quire, of the server")
    assert figure["value"] == pytest.approx(theirs / statistics.median(kept))


def test_all_arms_choose_the_same_tokens_in_float32(ran: Run) -> None:
    figure = ran.figure("the same work", "first tokens that quire and transformers agree on")
    assert figure["value"] == TOKENS
    answers = REPEAT * (1 + FEW)
    assert figure["note"] == f"{answers} of {answers} answers agree in {TOKENS}"


def test_no_arm_beats_the_floor(ran: Run) -> None:
    for entry in ran.figures["levels"]:
        for arm in entry["arms"].values():
            assert arm["median"]["decode_tokens_per_second"] < entry["floor"]["decode_tokens_per_second"]
            assert arm["median"]["tokens_per_second"] < entry["floor"]["tokens_per_second"]
            assert arm["median"]["first_token_ms_p95"] > entry["floor"]["first_token_ms"]


def test_requests_grow_memory_by_less_than_copies_of_everything(ran: Run) -> None:
    grown = of(ran, 6, "quire")["growth_bytes"]
    assert 0 <= grown < ran.figures["arms"]["quire"]["idle_bytes"]
    assert ran.figure("memory beyond weights and document", "quire, 6 at once")["value"] == pytest.approx(grown / 1e6)


def test_arms_that_wait_are_watched(ran: Run) -> None:
    figure = ran.figure("the same work", "of a core, used by an arm while it waits")
    assert set(HERE) == {word.split()[0] for word in figure["note"].split(", ")}


def test_the_plot_is_a_picture_that_names_the_arms(ran: Run, directory: Path) -> None:
    picture = (directory / "engine.svg").read_text(encoding="utf-8")
    assert picture.lstrip().startswith("<?xml")
    assert all(f"<!-- {label} -->" in picture for label in (*HERE, "floor of this machine"))
    assert "<!-- vllm -->" not in picture


def test_nothing_is_left_behind(ran: Run) -> None:
    assert list(ran.work.iterdir()) == []
    assert children_of(os.getpid()) == []


def test_nothing_measured_is_an_error(directory: Path, tiny_model_dir: Path, squad: Path) -> None:
    arguments = [*asked(tiny_model_dir, squad), "--arms", "vllm", "--pip-flags", "--no-index"]
    result = CliRunner(env=surroundings(directory)).invoke(bench, arguments)
    assert "environment for vLLM" in str(result.exception)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_ends_every_arm_and_removes_the_files(
    tmp_path: Path, tiny_model_dir: Path, squad: Path, number: signal.Signals
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    arguments = [*asked(tiny_model_dir, squad), "--vllm", "skip", "--work", str(work), "--repeat", "1000"]
    command = [sys.executable, "-c", "from quire.cli import main; main()", "bench", *arguments]
    surroundings(tmp_path)
    environ = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        arms: list[int] = []
        while process.poll() is None and len(arms) < len(HERE):
            time.sleep(0.1)
            arms = children_of(process.pid)
        process.send_signal(number)
        if number is signal.SIGTERM:  # as `timeout` does: one for the process, one for its group
            time.sleep(0.2)
            process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert len(arms) == len(HERE), said
    assert process.returncode not in (0, None), said
    patience = time.monotonic() + 30  # one that was being started just then ends by itself, when its input does
    while (left := [pid for pid in arms if Path(f"/proc/{pid}").exists()]) and time.monotonic() < patience:
        time.sleep(0.1)
    assert left == [], said
    assert list(work.iterdir()) == []
