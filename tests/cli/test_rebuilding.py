"""`quire build --watch` as a process of its own: it follows changes, survives mistakes, and ends clean."""

from __future__ import annotations

import json
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from quire import open_project
from quire.compiler import build_lock
from quire.errors import BuildBusy
from quire.registry import Registry

from .conftest import Quire

SECONDS = 60.0  # for anything that the process has to do


class Watching:
    """A running `quire build --watch --json`."""

    def __init__(self, root: Path) -> None:
        command = [
            sys.executable,
            "-c",
            "from quire.cli import main; main()",
            "build",
            "--watch",
            "--json",
            "--project",
            str(root),
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process: subprocess.Popen[str] = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
        self._said: dict[str, queue.Queue[Any]] = {"out": queue.Queue(), "err": queue.Queue()}
        named = (("out", self.process.stdout), ("err", self.process.stderr))
        self._readers = [threading.Thread(target=self._read, args=one, daemon=True) for one in named]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        with stream:
            for line in stream:
                if line.startswith("{"):
                    self._said[name].put(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()

    def build(self, seconds: float = SECONDS) -> dict[str, Any]:
        """The next build."""
        return dict(self._said["out"].get(timeout=seconds))

    def error(self) -> str:
        """The code of the next error."""
        return str(self._said["err"].get(timeout=SECONDS)["error"]["code"])

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


def names(build: dict[str, Any], kind: str) -> list[str]:
    return [ref["module"] for ref in build[kind]]


@pytest.fixture
def root(built_shop: Path, tmp_path: Path) -> Path:
    made = Path(shutil.copytree(built_shop, tmp_path / "shop"))
    toml = made / "quire.toml"
    toml.write_text("[build]\nwatch_seconds = 0.1\n" + toml.read_text())
    return made


@pytest.fixture
def watching(root: Path) -> Iterator[Watching]:
    with Watching(root) as started:
        yield started


def test_it_follows_changes_and_survives_mistakes(root: Path, watching: Watching) -> None:
    first = watching.build()
    assert (names(first, "compiled"), len(names(first, "current"))) == ([], 3)
    prices = root / "knowledge" / "prices.md"
    prices.write_text("A bolt costs 4 pounds.")
    assert names(watching.build(), "compiled") == ["prices"]

    prices.write_bytes(b"\0\1\2")
    assert watching.error() == "source_not_text"
    with Registry.open(root / ".quire" / "registry.db") as registry:
        assert registry.live("prices"), "what was live serves on"
    prices.write_text("A bolt costs 5 pounds.")
    assert names(watching.build(), "compiled") == ["prices"]

    toml = root / "quire.toml"
    before = toml.read_text()
    toml.write_text(before + "nonsense")
    assert watching.error() == "invalid_setting"
    toml.write_text(before.replace('[modules."prices"]', '[modules."prices"]\ntitle = "The prices"'))
    assert names(watching.build(), "compiled") == ["prices"]

    (root / "golden").mkdir()
    suite = root / "golden" / "shipping.yaml"
    suite.write_text("- question: When do parcels leave?\n  contains: no such words, ever\n")
    red = watching.build()
    assert [run["module"] for run in red["tested"] if not run["green"]] == ["shipping"]
    assert watching.error() == "golden_failed"
    (root / "knowledge" / "shipping.md").write_text("Parcels leave at night.")
    wrong = watching.build()
    assert (names(wrong, "compiled"), list(wrong["withheld"])) == (["shipping"], ["shipping"])
    assert watching.error() == "golden_failed"
    with Registry.open(root / ".quire" / "registry.db") as registry:
        stale = registry.live("shipping").stale
        assert stale
        assert stale.triggers == ("source",), "the old version serves on, and is known to be stale"
    suite.write_text("- question: When do parcels leave?\n  not_contains: no such words, ever\n")
    assert names(watching.build(), "published") == ["shipping"]
    assert watching.end(signal.SIGINT) == 0


@pytest.mark.slow
def test_it_waits_for_another_build_and_ends_at_once(root: Path) -> None:
    with ExitStack() as held:
        held.enter_context(build_lock(root / ".quire"))
        with open_project(root) as project, pytest.raises(BuildBusy):
            project.build()
        with Watching(root) as watching:
            with pytest.raises(queue.Empty):
                watching.build(4)
            held.close()
            assert names(watching.build(), "current")
            assert watching.end(signal.SIGTERM) == 0


def test_a_module_that_is_not_declared_is_no_reason_to_wait(root: Path, quire: Quire) -> None:
    refused = quire("build", "--watch", "nope", "--project", root)
    assert (refused.code, "no module 'nope'" in refused.err) == (8, True)
