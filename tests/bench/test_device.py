"""A tiny run of `quire bench device`, on a GPU if there is one: its figures follow from each other. Never: how fast."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.device.options import parse_lengths, parse_shape
from quire.errors import DeviceUnavailable, InvalidSetting

REPEAT = 2


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, device: str) -> tuple[str, dict[str, Any]]:
    """The table and the figures."""
    work, output = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("report") / "device.json"
    arguments = ["device", "--device", device, "--shape", "tiny", "--lengths", "130,64", "--requests", "3"]
    arguments += ["--repeat", str(REPEAT), "--work", str(work), "--json", str(output)]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert not list(work.iterdir()), "nothing is left behind"
    return result.stdout, json.loads(output.read_text())


def test_every_length_has_every_figure(report: tuple[str, dict[str, Any]]) -> None:
    table, figures = report
    assert list(figures["sections"]) == ["64 tokens", "130 tokens"]
    names = [[f["name"] for f in section] for section in figures["sections"].values()]
    assert names[0] == names[1]
    assert [name for name in names[0] if name not in table] == []
    assert all(f["value"] > 0 for section in figures["sections"].values() for f in section)
    assert all(figures["device"][rate] > 0 for rate in ("bus_rate", "read_rate", "product_rate"))


def test_ratios_are_those_of_the_figures_beside_them(report: tuple[str, dict[str, Any]]) -> None:
    _, figures = report
    for name, section in figures["sections"].items():
        value = {f["name"]: f["value"] for f in section}
        faster = min(value["prefill, transformers"], value["prefill, this engine"])
        restored = value["restored from host memory, first token"]
        assert value["faster prefill / restored"] == pytest.approx(faster / restored)
        bus = value["restoring alone"] * 1e9 / figures["device"]["bus_rate"]
        assert value["restoring, of the bus"] == pytest.approx(bus)
        assert value["tokens per second"] == pytest.approx(3e3 / value["a step of 3 requests"])
        missed = {f"{name}: {f['name']}" for f in section if f.get("met") is False}
        assert missed == {line for line in figures["missed"] if line.startswith(f"{name}: ")}
        samples = [f["samples"] for f in section if "samples" in f]
        assert samples
        assert all(len(taken) == REPEAT for taken in samples)


@pytest.mark.gpu
def test_steps_on_a_gpu_are_replayed(report: tuple[str, dict[str, Any]]) -> None:
    assert report[1]["replayed"] > 0
    assert report[1]["attention"] == "triton"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing() -> None:
    result = CliRunner().invoke(bench, ["device"])
    assert isinstance(result.exception, DeviceUnavailable)
    assert "model.device to cpu" in result.exception.hint


@pytest.mark.parametrize("text", ["", "12", "8k", "-64", "64;128"])
def test_lengths_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="numbers of tokens"):
        parse_lengths(text)


def test_lengths_and_shapes_are_read() -> None:
    assert parse_lengths("32_768, 64,64") == (64, 32768)
    assert parse_shape("tiny") == "tiny"
    with pytest.raises(InvalidSetting, match="a shape"):
        parse_shape("qwen")
