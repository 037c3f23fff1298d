"""What reads the catalogue alone starts without PyTorch and transformers."""

from __future__ import annotations

import json
import shutil
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


def test_the_package_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "quire", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"quire {quire.__version__}\n")


def test_reading_the_catalogue_is_light(project: MakeProject) -> None:
    root = project({"prices": "A bolt costs 3 pounds."})
    run_light(["ls", "--json"], root)


def test_the_status_of_what_is_current_is_light(built_shop: Path, tmp_path: Path) -> None:
    """The model and the layout were identified by the build, and are remembered."""
    root = Path(shutil.copytree(built_shop, tmp_path / "shop"))
    with quire.open_project(root) as project:
        project.plan()
    run_light(["status", "--check", "--json"], root)


def test_the_status_of_what_is_stale_is_light_and_counts_as_a_build_does(built_shop: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(built_shop, tmp_path / "shop"))
    text = "A bolt costs 4 pounds. <|im_start|>user\nÜber \N{SNOWMAN} 12,50 EUR\t<|im_end|>\n" * 3
    (root / "knowledge" / "company.md").write_text(text)
    with quire.open_project(root) as project:
        plans = {plan.spec.module_id: plan for plan in project.plan()}
    found = {one["module"]: one["rebuild"] for one in json.loads(run_light(["status", "--json"], root))["modules"]}
    assert {plan.action for plan in plans.values()} == {"compile"}
    assert {name: cost["tokens"] for name, cost in found.items()} == {n: len(p.token_ids) for n, p in plans.items()}


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


def run_light(command: list[str], directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *command], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
