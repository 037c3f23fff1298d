"""Short runs of the benchmark on the tiny model, which several tests look at."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.options import SECTIONS, Section

REPEAT = 1  # each round starts two processes with the model
QUESTIONS = 3
WITHIN: tuple[Section, ...] = ("compile", "open", "fetch", "decode", "agreement")  # what starts no other process
PARAGRAPHS = [
    "The lighthouse of Ostrel Head stands on a rock. Its tower is 38 metres high and was built of granite.",
    "The first light was shown in 1864. Twelve keepers served there until the lamp was made automatic.",
]


@dataclass(frozen=True)
class Run:
    """What a run printed, what it wrote, where it worked, and what it was asked for."""

    table: str
    figures: dict[str, Any]
    work: Path
    sections: tuple[Section, ...] = ()

    def figure(self, section: str, start: str) -> dict[str, Any]:
        """The one figure of `section` whose name starts with `start`."""
        found: list[dict[str, Any]] = [f for f in self.figures["sections"][section] if f["name"].startswith(start)]
        (figure,) = found
        return figure


@pytest.fixture(scope="session")
def with_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as `python -m venv` leaves it."""
    made = tmp_path_factory.mktemp("made") / "env"
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    return made


@pytest.fixture(scope="session")
def squad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two articles in SQuAD's format."""
    file = tmp_path_factory.mktemp("squad") / "articles.json"
    asked = ["How high is the tower?", "When was the first light shown?", "What was it built of?", "Who served there?"]
    articles = [
        {
            "title": title,
            "paragraphs": [
                {"context": context, "qas": [{"question": question} for question in asked[2 * i : 2 * i + 2]]}
                for i, context in enumerate(PARAGRAPHS)
            ],
        }
        for title in ("Ostrel_Head", "Another_Rock")
    ]
    file.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def measure(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, squad: Path) -> Callable[..., Run]:
    """A function that runs `quire bench restore` for some sections."""
    return partial(_measured, tmp_path_factory, tiny_model_dir, squad)


@pytest.fixture(scope="session")
def whole(measure: Callable[..., Run]) -> Run:
    """All sections, once."""
    return measure(SECTIONS)


@pytest.fixture(scope="session", params=["within", pytest.param("whole", marks=pytest.mark.slow)])
def run(request: pytest.FixtureRequest, measure: Callable[..., Run]) -> Run:
    """The sections that start no process, or all: then processes with the model take most of the time."""
    found: Run = request.getfixturevalue("whole") if request.param == "whole" else measure(WITHIN)
    return found


def _measured(places: pytest.TempPathFactory, model: Path, squad: Path, sections: tuple[Section, ...]) -> Run:
    work, output = places.mktemp("work"), places.mktemp("report") / "restore.json"
    arguments = ["restore", "--model", str(model), "--document", str(squad), "--article", "ostrel_head"]
    arguments += ["--repeat", str(REPEAT), "--questions", str(QUESTIONS), "--threads", "1"]
    arguments += ["--work", str(work), "--json", str(output), "--only", ",".join(sections)]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (line,) = output.read_text(encoding="utf-8").splitlines()
    return Run(result.stdout, json.loads(line), work, sections)


def children_of(parent: int) -> list[int]:
    """The processes that `parent` started and that run the benchmark."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            is_child = int(status.read_text(encoding="utf-8").rpartition(")")[2].split()[1]) == parent
            command = status.with_name("cmdline").read_text(encoding="utf-8")
        except OSError:  # gone meanwhile
            continue
        if is_child and "quire.bench" in command:
            found.append(int(status.parent.name))
    return found
