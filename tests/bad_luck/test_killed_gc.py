"""Garbage collection that dies at any step leaves what is live whole, is called what it is, and is finished later."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from quire import Project, open_project
from quire.cli import main
from quire.compiler import collect_garbage, find_problems

from .watching import MakeProject, at_rest

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["quire.compiler", "quire.project"])
# What changes something on a disk, or comes before it: the registry's own files are opened when it writes.
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
Step = tuple[str, str]  # what, and the path


def collect(root: str, taken: str, deadly: int) -> None:
    """Collect garbage, and send this process SIGKILL just before its step `deadly`; else write which steps there were.

    In a process of its own: Python does not take back what listens to its steps.
    """
    steps: list[Step] = []

    def step(event: str, arguments: tuple[object, ...]) -> None:
        # A directory's files are removed by their bare names.
        if event in STEPS and (str(arguments[0]).startswith(root) or "/" not in str(arguments[0])):
            steps.append((event, str(arguments[0])))
            if len(steps) - 1 == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    with open_project(root) as project:
        sys.addaudithook(step)
        collect_garbage(project.registry, project.store, keep=0, actor="tester")
        done = json.dumps(steps)
    Path(taken).write_text(done)


def steps_of(root: Path, deadly: int = -1) -> list[Step]:
    """Run `collect` elsewhere; its steps, none if it was killed."""
    taken = root.with_suffix(".steps")
    process = FORKSERVER.Process(target=collect, args=(str(root), str(taken), deadly))
    process.start()
    process.join(120)
    assert process.exitcode == (0 if deadly < 0 else -signal.SIGKILL)
    return [] if deadly >= 0 else [(event, path) for event, path in json.loads(taken.read_text())]


def kinds(project: Project) -> set[str]:
    return {p.kind for p in find_problems(project.registry, project.store, advance=lambda _: None)}


@dataclass(frozen=True)
class Editions:
    """A project with two old versions of a module; the steps of a run that nobody stops, and the digests it keeps."""

    root: Path
    steps: list[Step]
    kept: set[str]


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory, write_project: MakeProject) -> Editions:
    place = tmp_path_factory.mktemp("editions")
    root = place / "shop"
    for number in range(3):
        sources = {"company": "Norrvik sells bolts.", "prices": f"A bolt costs {number} pounds."}
        write_project(root, sources, parents={"prices": "company"})
        with open_project(root) as project:
            project.build()
    whole = Path(shutil.copytree(root, place / "whole"))
    steps = steps_of(whole)
    with open_project(whole) as project:
        assert at_rest(project)
        return Editions(root, steps, {record.digest for record in project.registry.versions()})


def killed_at(editions: Editions, tmp_path: Path, deadly: int) -> Path:
    root = Path(shutil.copytree(editions.root, tmp_path / str(deadly) / "shop"))
    assert steps_of(root, deadly) == []
    return root


def check_finished(root: Path, kept: set[str]) -> None:
    with open_project(root) as project:
        assert at_rest(project)
        assert {record.digest for record in project.registry.versions()} == kept == set(project.store.digests())


def said(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert not ended.value.code
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("step", "path", "remedy"),
    [
        ("os.rename", "/.quire/artifacts/", "gc"),
        ("os.remove", "kv-00000", "gc"),
        ("os.remove", "kv-00000", "fsck"),
        ("os.remove", "/.quire/removing/", "gc"),
    ],
)
def test_a_removal_that_was_killed_is_named_and_finished(
    editions: Editions, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: str, path: str, remedy: str
) -> None:
    """After the version was forgotten, with half of its files removed, and before the end is noted."""
    deadly = next(n for n, (event, where) in enumerate(editions.steps) if event == step and path in where)
    root = killed_at(editions, tmp_path, deadly)
    before = said(capsys, "fsck", "--project", str(root))
    assert (before["problems"], len(before["interrupted"])) == ([], 1)
    if remedy == "gc":
        assert said(capsys, "gc", "--keep", "0", "--project", str(root))["finished"] == before["interrupted"]
    else:
        said(capsys, "fsck", "--repair", "--project", str(root))
        assert said(capsys, "fsck", "--project", str(root))["interrupted"] == []
        said(capsys, "gc", "--keep", "0", "--project", str(root))
    check_finished(root, editions.kept)


@pytest.mark.chaos
def test_killed_at_every_step(editions: Editions, tmp_path: Path, chaos_count: int | None) -> None:
    found: set[str] = set()
    count = len(editions.steps)
    for deadly in range(0, count, max(1, count // (chaos_count or count))):
        root = killed_at(editions, tmp_path, deadly)
        with open_project(root) as project:
            found |= kinds(project)
            collect_garbage(project.registry, project.store, keep=0, actor="tester")
        check_finished(root, editions.kept)
        shutil.rmtree(root.parent)
    assert found <= {"interrupted"}
