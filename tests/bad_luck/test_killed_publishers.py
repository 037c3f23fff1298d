"""kill -9 in the middle of a publication: never two live versions, never none, never one whose tests failed.

Three kinds of process publish: `quire publish`, a build, and a gateway that is asked to by its admin API. Each is
killed at a random moment, and what it leaves is looked at from outside, with all checks of `quire fsck` on the
catalogue: one live version of each module, green by the tests it declares, a history that ends in the state of every
row, an audit log whose hashes hold.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import pytest
from gateway.process import Server

from quire import open_project
from quire.cli import main
from quire.registry import Registry, VersionRecord

from .test_killed_builds import LATER, SOONER
from .watching import MakeProject

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["quire.cli", "quire.compiler", "quire.project"])
MODULES = ("company", "prices", "shipping")
PARENTS = {"prices": "company", "shipping": "company"}
GREEN, RED = {"not_contains": "\N{SNOWMAN}"}, {"contains": "\N{SNOWMAN}"}


def write(root: Path, write_project: MakeProject, edition: int, *, red: bool) -> None:
    """New sources for two modules; the golden tests of one of them can be passed, or cannot."""
    prices = f"Edition {edition}: a bolt costs {edition} pounds. " * 8
    sources = {"company": "Norrvik sells bolts. " * 8, "prices": prices, "shipping": f"Parcel number {edition}. " * 8}
    write_project(root, sources, parents=PARENTS, **{"build.prefill_chunk": 16})
    (root / "golden").mkdir(exist_ok=True)
    for name, expected in (("prices", RED if red else GREEN), ("shipping", GREEN)):
        golden = [{"question": "What?", "max_tokens": 4, **expected}]
        (root / "golden" / f"{name}.yaml").write_text(json.dumps(golden))


def run(arguments: list[str], begun: Connection) -> None:
    """A command of the command line, in a process of its own that says when it begins."""
    os.environ["QUIRE_MODEL_THREADS"] = "1"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    begun.send(True)
    main(arguments)


def killed(arguments: list[str], after: float) -> bool:
    """Run a command and kill it so many seconds after it began; whether it was still running."""
    listening, begun = FORKSERVER.Pipe(duplex=False)
    process: BaseProcess = FORKSERVER.Process(target=run, args=(arguments, begun))
    process.start()
    assert listening.poll(60)
    time.sleep(after)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def killed_gateway(root: Path, record: VersionRecord, after: float) -> bool:
    """Start a server, ask it to publish, and kill it meanwhile; whether it had not answered yet."""
    answered: list[int] = []

    def ask(url: str) -> None:
        body = {"version": record.version, "reason": "to be killed"}
        try:
            answered.append(httpx.post(f"{url}/v1/admin/modules/prices/publish", json=body, timeout=60).status_code)
        except httpx.TransportError:
            return  # it died

    with Server(root, **{"model.threads": 1}) as server:
        asking = threading.Thread(target=ask, args=(server.url,))
        asking.start()
        time.sleep(after)
        server.kill()
        asking.join()
    return not answered


def check(root: Path, red: set[str]) -> str:
    """What must hold at any moment; gives the live version of `prices`."""
    with Registry.open(root / ".quire" / "registry.db") as registry:
        assert registry.integrity() == []
        assert registry.audit.verify().findings == ()
        lives = Counter(record.module_id for record in registry.versions() if record.state == "live")
        assert lives == dict.fromkeys(MODULES, 1)
        live = registry.live("prices")
        run = registry.golden.newest(live)
        assert run is not None
        assert run.green
        assert live.version not in red
        return live.version


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("few", [3, pytest.param(None, marks=pytest.mark.chaos)])
def test_a_killed_publisher_leaves_one_live_version_that_passed(
    tmp_path: Path, write_project: MakeProject, few: int | None, chaos_count: int | None
) -> None:
    rounds = few or chaos_count or 100
    root, draw, red = tmp_path / "shop", random.Random(rounds), set[str]()
    write(root, write_project, 1, red=False)
    with open_project(root) as project:
        project.build()
        for edition in (2, 3):
            write(root, write_project, edition, red=edition == 3)
            report = project.build(publish=False)
            red |= {run.version for run in report.red}
    assert len(red) == 1
    longest = {"publish": 0.1, "gateway": 0.1, "build": 2.0}  # seconds; what they take is found by killing them
    before, died, changed, seen = check(root, red), 0, 0, {1, 2, 3}
    for number in range(rounds):
        kind = ("publish", "gateway", "build")[number % 3]
        if kind == "build":
            edition = max(seen) + 1
            seen.add(edition)
            is_red = draw.random() < 0.3
            write(root, write_project, edition, red=is_red)
            if is_red:
                with open_project(root) as project:
                    red.add(next(plan.version for plan in project.plan() if plan.spec.module_id == "prices"))
            dead = killed(["build", "--project", str(root)], draw.random() * longest[kind])
        else:
            with Registry.open(root / ".quire" / "registry.db") as registry:
                others = [record for record in registry.versions("prices") if record.state != "live"]
            chosen = draw.choice(others)
            after = draw.random() * longest[kind]
            dead = (
                killed(["publish", str(chosen.ref), "--project", str(root)], after)
                if kind == "publish"
                else killed_gateway(root, chosen, after)
            )
        died += dead
        longest[kind] *= LATER if dead else SOONER
        changed += before != (before := check(root, red))
    assert died >= rounds // 3, "many were killed before they were done"
    assert rounds < 20 or changed, "and some had published"
    write(root, write_project, max(seen) + 1, red=False)
    with open_project(root) as project:
        project.build()
        assert {plan.action for plan in project.plan()} == {"current"}
    check(root, red)
