"""What reads the catalogue alone starts without PyTorch and transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import quire

from .conftest import MakeProject

HEAVY = """
import sys
from quire.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stopped:
    loaded = [name for name in ("torch", "transformers") if name in sys.modules]
    sys.exit(f"loaded {loaded}" if loaded else stopped.code)
"""


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["build", "--help"], ["bench", "--help"]])
def test_help_is_light(command: list[str]) -> None:
    run_light(command, Path.cwd())


def test_reading_the_catalogue_is_light(project: MakeProject) -> None:
    root = project({"prices": "A bolt costs 3 pounds."})
    run_light(["ls", "--json"], root)


def test_importing_the_package_is_light() -> None:
    code = "import quire, sys; sys.exit('torch' in sys.modules or 'sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_are_few_and_all_there() -> None:
    assert len(quire.__all__) <= 15
    assert dir(quire) == sorted(quire.__all__)
    assert all(getattr(quire, name) is not None for name in quire.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'open_projekt'"):
        _ = quire.open_projekt


def run_light(command: list[str], directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *command], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
