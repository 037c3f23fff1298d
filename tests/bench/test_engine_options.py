"""What `quire bench engine` is told is understood or refused by name, before the long work begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.engine.options import (
    ARMS,
    ENGINE_SECTIONS,
    LEVELS,
    MOST,
    parse_arms,
    parse_engine_sections,
    parse_levels,
)
from quire.errors import InvalidSetting, QuireError, StoreError


def refused(*arguments: str) -> QuireError:
    """The error of `quire bench engine` with these arguments."""
    result = CliRunner().invoke(bench, ["engine", *arguments])
    assert isinstance(result.exception, QuireError), result.output
    assert result.exception.hint
    return result.exception


def test_all_arms_levels_and_sections_by_default() -> None:
    assert parse_arms("", "auto") == ARMS
    assert parse_levels("") == LEVELS
    assert parse_engine_sections(" ") == ENGINE_SECTIONS


def test_lists_are_brought_into_order_without_repetitions() -> None:
    assert parse_arms("vllm, quire,vllm", "auto") == ("quire", "vllm")
    assert parse_levels("16, 4,16,1") == (1, 4, 16)
    assert parse_engine_sections("memory,load") == ("load", "memory")


def test_without_vllm_the_other_arms_run() -> None:
    assert parse_arms("", "skip") == ("quire", "transformers")
    with pytest.raises(InvalidSetting, match="--vllm skip"):
        parse_arms("vllm", "skip")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "four", "1;4", "²", str(MOST + 1)])
def test_a_number_of_requests_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="requests at once") as caught:
        parse_levels(f"1,{text}")
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--arms", "quire,llama"], "llama"),
        (["--only", "speed"], "speed"),
        (["--concurrency", "many"], "many"),
        (["--plot", "figure.pdf"], "figure.pdf"),
        (["--only", "restart", "--plot", "figure.png"], "load"),
        (["--vllm", "/nowhere/python"], "/nowhere/python"),
        (["--vllm", sys.executable], sys.executable),  # an interpreter that has no vLLM
    ],
)
def test_what_is_not_known_is_refused_by_name(arguments: list[str], named: str) -> None:
    error = refused(*arguments)
    assert isinstance(error, InvalidSetting)
    assert named in error.message


def test_a_plot_without_matplotlib_is_refused_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = refused("--plot", "figure.png")
    assert isinstance(error, InvalidSetting)
    assert error.hint == "pip install 'quire[bench]'"


def test_a_report_or_a_plot_that_could_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    for option in ("--json", "--plot"):
        assert isinstance(refused(option, str(tmp_path / "none" / "figures.png")), StoreError)
