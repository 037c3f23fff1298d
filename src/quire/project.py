"""A project as Python sees it: open, build, ask, chat, verify. The command line uses the same."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from quire import wiring
from quire.answering import Answer, Question
from quire.compiler import BuildReport, Comparison, ModulePlan, build_lock, compare, plan_build, run_build
from quire.core import Sampling, Turn
from quire.registry import actor
from quire.settings import find_project, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from quire.compiler import BuildProgress, Layout
    from quire.model import LoadedModel, ModelSource
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.store import Store


def open_project(path: str | Path | None = None) -> Project:
    """The project whose quire.toml is at or above `path` (default: the working directory).

    Raises:
        ProjectNotFound, InvalidSetting, UnknownSetting.
    """
    return Project(load_settings(find_project(Path(path) if path else None), os.environ))


class Project:
    """One project: its settings, registry and store at once, its model when it is first needed. Use it with `with`."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None] | None = None) -> None:
        """`say`: told about slow first-time work, such as fetching the default model."""
        self.settings = settings
        self.registry: Registry = wiring.open_registry(settings)
        self.store: Store = wiring.open_artifacts(settings)
        self._say = say
        self._source: ModelSource | None = None
        self._layout: Layout | None = None
        self._model: LoadedModel | None = None
        self._runtime: wiring.Runtime | None = None
        self._lock = threading.RLock()

    @property
    def source(self) -> ModelSource:
        """The model on disk: identified, not loaded. The default model is fetched here if it must be."""
        with self._lock:
            self._source = self._source or wiring.find_source(self.settings, self._say)
            return self._source

    @property
    def layout(self) -> Layout:
        with self._lock:
            self._layout = self._layout or wiring.find_layout(self.settings, self.source)
            return self._layout

    @property
    def model(self) -> LoadedModel:
        """The model in memory, loaded on first use."""
        with self._lock:
            self._model = self._model or wiring.load_model(self.settings, self.source)
            return self._model

    @property
    def runtime(self) -> wiring.Runtime:
        """Pool, scheduler and answerer, started on first use."""
        with self._lock:
            if self._runtime is None:
                self._runtime = wiring.start(self.settings, self.model, self.registry, self.store)
            return self._runtime

    def plan(self, only: Iterable[str] = ()) -> list[ModulePlan]:
        """What `build` would do, parents first. Computes nothing on the model."""
        return plan_build(
            self.settings, self.settings.modules, self.source, self.layout, self.registry, self.store, only=only
        )

    def build(self, only: Iterable[str] = (), *, progress: BuildProgress | None = None) -> BuildReport:
        """Bring modules (all, or `only` these with their ancestors) up to date and make them live.

        Raises:
            BuildBusy, BuildInterrupted; SourceError, CompileError, StoreError for what is wrong with the input.
        """
        with build_lock(self.settings.state):
            self.store.sweep()
            plans = self.plan(only)
            return run_build(plans, lambda: self.model, self.registry, self.store, progress or Silent(), actor=actor())

    def ask(self, question: str, *, module: str | None = None, **sampling: Any) -> Answer:
        """Ask one question: iterate over the answer for its pieces, or call its `text()`.

        `module`: ``name`` or ``name@version``; without it the rules of quire.toml decide. `sampling`: the fields of
        `Sampling`, greedy by default.
        """
        return self.chat([Turn("user", question)], module=module, **sampling)

    def chat(
        self, turns: Iterable[Turn], *, module: str | None = None, session: str | None = None, **sampling: Any
    ) -> Answer:
        """Go on with a conversation. With a `session` name the KV of earlier turns is kept and not computed again."""
        question = Question(tuple(turns), module=module, session=session, sampling=Sampling(**sampling))
        return self.runtime.answerer.ask(question)

    def verify(self, record: VersionRecord, question: str, *, tokens: int = 24) -> Comparison:
        """Answer `question` from restored KV and by transformers' full prefill of the same token ids, and compare."""
        answerer = self.runtime.answerer
        prepared = answerer.prepare(Question((Turn("user", question),), module=str(record.ref)))
        try:
            return compare(
                self.model,
                prepared.lease.segments,
                prepared.lease.token_ids,
                prepared.suffix_ids,
                tokens=tokens,
            )
        finally:
            prepared.release()

    def close(self, drain_seconds: float = 0.0) -> None:
        """Stop answering and let go of all files. May be called twice."""
        with self._lock:
            if self._runtime:
                self._runtime.close(drain_seconds)
                self._runtime = None
            self.registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Silent:
    """Build progress for nobody."""

    def starting(self, plan: ModulePlan) -> None:
        pass

    def advance(self, plan: ModulePlan, tokens: int) -> None:
        pass

    def finished(self, plan: ModulePlan) -> None:
        pass
