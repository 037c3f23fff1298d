"""What a project must look like when nothing is going on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from quire import ModulePlan, Project
from quire.compiler import find_problems

MakeProject = Callable[..., Path]


def at_rest(project: Project) -> bool:
    """No problem, no artifact that nobody knows, no half-written file."""
    state = project.settings.state
    registry = {"registry.db", "registry.db-wal", "registry.db-shm", "registry.db.head"}
    allowed = {
        "artifacts",
        "tmp",
        "removing",
        "build.lock",
        "identity.json",
        "identity.new",
        "tokenizer.json",
        *registry,
    }
    found = {entry.name for entry in state.iterdir()}
    # The reports of a checkout; what a killed process left of them goes with the first write after a minute.
    assert {name for name in found if not re.match(r"checkout(-[0-9a-f]{16})?\.json", name)} <= allowed
    assert [left for name in ("tmp", "removing") for left in (state / name).glob("*")] == []
    assert find_problems(project.registry, project.store, advance=lambda _: None) == []
    return True


class FillAtTheEnd:
    """Build progress that acts once, when the last token of the first module has been computed."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act
        self._tokens = 0

    def starting(self, plan: ModulePlan) -> None:
        self._tokens = 0

    def advance(self, plan: ModulePlan, tokens: int) -> None:
        self._tokens += tokens
        if self._act and self._tokens == len(plan.token_ids):
            self._act()
            self._act = None

    def finished(self, plan: ModulePlan) -> None:
        pass

    def tested(self, done: int, total: int) -> None:
        pass
