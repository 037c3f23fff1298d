"""Build progress that a test can look at, and act from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quire.compiler import ModulePlan

MakeProject = Callable[..., Path]


class Watch:
    """Keeps what a build told, and calls `on_advance` with the module and its tokens so far."""

    def __init__(self, on_advance: Callable[[str, int], None] | None = None) -> None:
        self.started: list[str] = []
        self.done: list[str] = []
        self.tokens: dict[str, int] = {}
        self._on_advance = on_advance

    def starting(self, plan: ModulePlan) -> None:
        self.started.append(plan.spec.module_id)

    def advance(self, plan: ModulePlan, tokens: int) -> None:
        name = plan.spec.module_id
        self.tokens[name] = self.tokens.get(name, 0) + tokens
        if self._on_advance:
            self._on_advance(name, self.tokens[name])

    def finished(self, plan: ModulePlan) -> None:
        self.done.append(plan.spec.module_id)

    def tested(self, done: int, total: int) -> None:
        pass
