"""A build that dies at any moment leaves the old version serving, and the next build as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.compiler import find_problems

from .watching import MakeProject, at_rest

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["quire.compiler", "quire.project"])
PARENTS = {"prices": "company", "shipping": "company", "bolts": "prices"}
LATER, SOONER = 1.1, 0.8  # than before is the next one killed, if this one was still running, or done
MODULES = ["company", "prices", "shipping", "bolts"]
DEADLY = [signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


def sources(number: int) -> dict[str, str]:
    return {name: f"Edition {number} of what {name} is about. " * 12 for name in MODULES}


def build(root: str) -> None:
    with open_project(root) as project:
        project.build()


def build_and_die(root: str, number: int, after: float) -> bool:
    """Run a build in a process of its own and send it `number` that many seconds after it began to write."""
    process = FORKSERVER.Process(target=build, args=(root,))
    process.start()
    lock = Path(root) / ".quire" / "build.lock"
    deadline = time.monotonic() + 60
    while process.is_alive() and lock.read_text() != str(process.pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(after)
    assert process.pid
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:  # it ended by itself, and whoever started it has taken note
        return False
    finally:
        process.join()
    return True


def live(project: Project) -> dict[str, str]:
    return {name: project.registry.live(name).digest for name in MODULES}


def answers(project: Project) -> dict[str, list[int]]:
    found = {}
    for name in MODULES:
        answer = project.ask("What?", module=name, max_tokens=4, ignore_eos=True)
        answer.text()
        found[name] = answer.token_ids
    return found


@pytest.mark.parametrize("few", [3, pytest.param(None, marks=pytest.mark.chaos)])
@pytest.mark.timeout(1200)
def test_killed_at_random_moments(
    tmp_path: Path, write_project: MakeProject, few: int | None, chaos_count: int | None
) -> None:
    moments = few or chaos_count or 50
    root: Path = write_project(tmp_path / "shop", sources(0), parents=PARENTS, **{"build.prefill_chunk": 16})
    draw = random.Random(moments)
    began = time.monotonic()
    build(str(root))
    longest = max(time.monotonic() - began, 0.5)  # seconds; what a build takes later is found by killing it
    with open_project(root) as project:
        before, said = live(project), answers(project)
    died = 0
    for number in range(1, moments + 1):
        write_project(root, sources(number), parents=PARENTS, **{"build.prefill_chunk": 16})
        dead = build_and_die(str(root), draw.choice(DEADLY), draw.random() * longest)
        longest *= LATER if dead else SOONER
        died += dead
        with open_project(root) as project:
            after = live(project)
            planned = {plan.spec.module_id: plan for plan in project.plan()}
            if after != before:  # the signal came after the last step: then all of the new is live
                assert {plan.action for plan in planned.values()} == {"current"}
            else:
                assert answers(project) == said, "the old version answers as it did"
            assert not [
                p
                for p in find_problems(project.registry, project.store, advance=lambda _: None)
                if p.kind not in {"orphaned"}
            ]
            project.build()
            assert at_rest(project), "nothing is left behind"
            assert {plan.action for plan in project.plan()} == {"current"}
            before, said = live(project), answers(project)
    assert died >= moments // 2, "most signals came while a build was running"
