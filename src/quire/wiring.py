"""build(settings): the only file that knows everyone. No logic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.answering import Answerer
from quire.compiler import Layout, chat_layout, read_layout
from quire.engine import LocalEngine, Sessions, suffix_space
from quire.model import LoadedModel, ModelSource, find_model
from quire.pool import Pool
from quire.registry import Registry
from quire.router import Router
from quire.scheduler import Scheduler
from quire.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.settings import Settings


@dataclass(slots=True)
class Runtime:
    """A loaded model and everything that answers with it."""

    model: LoadedModel
    pool: Pool
    scheduler: Scheduler
    answerer: Answerer

    def close(self, drain_seconds: float = 0.0) -> None:
        self.scheduler.stop(drain_seconds)
        self.pool.close()


def open_registry(settings: Settings) -> Registry:
    return Registry.open(settings.registry_file)


def open_artifacts(settings: Settings) -> Store:
    return open_store(settings.state)


def find_source(settings: Settings, progress: Callable[[str], None] | None = None) -> ModelSource:
    return find_model(
        settings.model_name,
        settings.model_home,
        dtype=settings["model.dtype"],
        weights=settings["model.weights"],
        progress=progress,
    )


def find_layout(settings: Settings, source: ModelSource) -> Layout:
    file = settings["layout.file"]
    return read_layout(settings.root / file) if file else chat_layout(source.tokenizer)


def load_model(settings: Settings, source: ModelSource) -> LoadedModel:
    return source.load(
        device=settings["model.device"],
        threads=settings["model.threads"] or None,
        kernels=settings["model.kernels"],
    )


def start(settings: Settings, model: LoadedModel, registry: Registry, store: Store) -> Runtime:
    pool = Pool(store, model.facts, max_bytes=settings["pool.max_bytes"])
    space = suffix_space(model, settings["engine.suffix_tokens"], settings["engine.max_sequences"])
    sessions = Sessions(space, settings["engine.session_bytes"])
    scheduler = Scheduler(
        LocalEngine(model, space, sessions),
        max_sequences=settings["engine.max_sequences"],
        step_tokens=settings["engine.step_tokens"],
        queue=settings["engine.queue"],
    )
    answerer = Answerer(model, registry, pool, Router(settings.modules), scheduler, sessions)
    return Runtime(model, pool, scheduler, answerer)
