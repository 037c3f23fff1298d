"""build(settings): the only file that knows everyone. No logic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire import descriptors
from quire.access import Keys, Policy, Strangers
from quire.answering import Answerer, Comparing, Fitting, Recording
from quire.compiler import Layout, chat_layout, read_layout
from quire.coordination import Notices, Redis, open_redis
from quire.engine import LocalEngine, Sessions, suffix_space
from quire.limits import Limiter, MonthlyUse, SharedRates
from quire.model import LoadedModel, ModelSource, find_model, host_memory
from quire.pool import ModelWatch, Pool, Watch, open_room
from quire.registry import Canaries, Follower, Recorder, Registry
from quire.router import LiveRoutes
from quire.scheduler import Scheduler
from quire.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from quire.access import Recorder as Tell
    from quire.settings import Settings


@dataclass(slots=True)
class Runtime:
    """A loaded model and everything that answers with it."""

    model: LoadedModel
    pool: Pool
    scheduler: Scheduler
    answerer: Answerer
    comparing: Comparing
    watch: Watch
    cuts_revoked: bool

    def revoked(self, digests: Collection[str]) -> None:
        """These modules answer nothing more, at once; what they are answering ends as `engine.on_revoke` says."""
        self.pool.drop(digests)
        if self.cuts_revoked:
            self.scheduler.cut(digests)

    def close(self, drain_seconds: float = 0.0) -> None:
        self.watch.stop()
        self.comparing.close()
        self.scheduler.stop(drain_seconds)
        self.pool.end()


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what, and the keys by which they are known."""

    policy: Policy
    keys: Keys


def open_registry(settings: Settings) -> Registry:
    return Registry.open(settings.registry_place, heads=settings.state)


def open_follower(settings: Settings, registry: Registry) -> Follower:
    return Follower(
        registry,
        settings.registry_place,
        poll_seconds=settings["registry.poll_seconds"],
        stale_seconds=settings["registry.stale_seconds"],
    )


def open_artifacts(settings: Settings, registry: Registry) -> Store:
    return open_store(settings, registry.pinned_digests)


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
        memory=host_memory(settings["pool.memory"]),
    )


def open_recorder(settings: Settings, registry: Registry) -> Recorder:
    return Recorder(registry.audit, queue=settings["audit.queue"])


def open_access(follower: Follower, record: Tell) -> Access:
    """`record`: told about denials and changes of keys."""
    policy = Policy(Strangers(record))
    return Access(policy, Keys(follower.keys, policy))


def open_limiter(settings: Settings, registry: Registry, redis: Redis | None) -> Limiter:
    return Limiter(settings.limits_of, MonthlyUse(registry.use), SharedRates(redis) if redis else None)


def connect_redis(settings: Settings) -> Redis | None:
    return open_redis(settings["redis.url"], settings["redis.prefix"]) if settings["redis.url"] else None


def open_notices(redis: Redis, registry: Registry) -> Notices:
    notices = Notices(redis)
    registry.audit.listen(notices.tell)
    return notices


def start(
    settings: Settings,
    model: LoadedModel,
    registry: Registry,
    store: Store,
    policy: Policy,
    recorder: Recorder,
    canaries: Canaries,
) -> Runtime:
    """`registry`: what questions are answered from. `canaries`: where what is seen of them is written."""
    space = suffix_space(model, settings["engine.suffix_tokens"], settings["engine.max_sequences"])
    model.prepare_decoding(settings["engine.max_sequences"])
    sessions = Sessions(space, settings["engine.session_bytes"])
    room = open_room(model.device, settings["pool.device_bytes"])
    pool = Pool(
        store,
        model.facts,
        max_bytes=settings["pool.max_bytes"],
        policy=policy,
        device=room,
        memory=host_memory(settings["pool.memory"]),
        record=recorder.record,
        max_modules=descriptors.for_modules(),
        max_mappings=descriptors.mappings_for_modules(),
    )
    watch = Watch([pool.look, ModelWatch(model, recorder.record).look], settings["pool.check_seconds"])
    scheduler = Scheduler(
        LocalEngine(
            *(model, space, sessions),
            guesses=settings["engine.guesses"],
            answer_tokens=settings["engine.answer_tokens"],
            repetition_tokens=settings["engine.repetition_tokens"],
        ),
        max_sequences=settings["engine.max_sequences"],
        step_tokens=settings["engine.step_tokens"],
        queue=settings["engine.queue"],
    )
    routes = LiveRoutes(registry.routes)
    recording = Recording(recorder, routes=settings["audit.routes"], texts=settings["audit.texts"])
    comparing = Comparing(canaries)
    when_stale = {spec.module_id: spec.stale for spec in settings.modules}
    fitting = Fitting(registry, model.facts, policy, lambda module_id: when_stale.get(module_id, "serve"))
    answerer = Answerer(
        model,
        registry,
        pool,
        routes,
        scheduler,
        sessions,
        policy,
        recording,
        weight_of=lambda tenant: settings.limits_of(tenant).weight,
        comparing=comparing,
        fitting=fitting,
    )
    comparing.begin(answerer)
    return Runtime(model, pool, scheduler, answerer, comparing, watch, settings["engine.on_revoke"] == "cut")
