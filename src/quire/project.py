"""A project as Python sees it: open, build, ask, chat, verify. The command line uses the same."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from quire import wiring
from quire.access import LOCAL
from quire.answering import Answer, Question, Trial, try_versions
from quire.compiler import (
    BuildReport,
    Comparison,
    ModulePlan,
    build_lock,
    compare,
    identity_of,
    plan_build,
    run_build,
    share_chains,
)
from quire.compiler.compiling import numerics
from quire.core import Sampling, Turn
from quire.errors import GoldenNotRun, InvalidSetting, SourceError
from quire.registry import actor
from quire.router import draft_routes, publish_routes
from quire.settings import find_project, load_settings
from quire.staleness import Assessment, Checkout, Identity, assess, recall, remember
from quire.stopping import at_exit
from quire.store import warn_of_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from quire.compiler import BuildProgress, Layout
    from quire.golden import GoldenRun, Suite
    from quire.model import LoadedModel, ModelSource
    from quire.registry import Canary, Registry, VersionRecord
    from quire.settings import Settings
    from quire.sources import Document
    from quire.store import Store


T = TypeVar("T")


def open_project(path: str | Path | None = None) -> Project:
    """The project whose quire.toml is at or above `path` (default: the working directory).

    Raises:
        ProjectNotFound, InvalidSetting, UnknownSetting.
    """
    return Project(load_settings(find_project(Path(path) if path else None), os.environ))


class Project:
    """One project: its settings, registry and store at once, its model when it is first needed. Use it with `with`."""

    def __init__(
        self,
        settings: Settings,
        *,
        say: Callable[[str], None] | None = None,
        outlasts_registry: bool = True,
        registry: Registry | None = None,
    ) -> None:
        """`say`: told about slow first-time work, such as fetching the default model.

        `outlasts_registry`: answer from a copy of a registry on a server, which serves on while that is gone. It takes
        time to make: without it the server is asked itself, which is better for a few questions.

        `registry`: an open registry, which the caller closes; default: that of the settings.
        """
        self.settings = settings
        self.registry: Registry = registry or wiring.open_registry(settings)
        self._owns_registry = registry is None
        self._checkout = Checkout(settings, actor=actor())
        self.recorder = wiring.open_recorder(settings, self.registry)
        self.follower = wiring.open_follower(settings, self.registry)
        self.access = wiring.open_access(self.follower, self.recorder.tell_access)
        self.redis = wiring.connect_redis(settings)
        self.notices = wiring.open_notices(self.redis, self.registry) if self.redis else None
        self.limiter = wiring.open_limiter(settings, self.registry, self.redis)
        self.store: Store = wiring.open_artifacts(settings, self.registry)
        self._say = say
        self._outlasts_registry = outlasts_registry
        self._source: ModelSource | None = None
        self._layout: Layout | None = None
        self._model: LoadedModel | None = None
        self._runtime: wiring.Runtime | None = None
        self._lock = threading.RLock()
        self._forget_exit: Callable[[], None] = lambda: None

    @property
    def known(self) -> Registry:
        """What questions are answered from: the registry, or the last that is known of one on a server. Read only."""
        return self.follower.known

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
        """The model in memory, loaded on first use. Says what computes it where something faster is missing."""
        with self._lock:
            if self._model is None:
                self._model = wiring.load_model(self.settings, self.source)
                chosen = self._model.backend.arithmetic
                if self._say and chosen and chosen.hint:
                    self._say(str(chosen))
            return self._model

    @property
    def runtime(self) -> wiring.Runtime:
        """Pool, scheduler and answerer, started on first use."""
        with self._lock:
            if self._runtime is None:
                self._forget_exit()
                self._forget_exit = at_exit(self.close)
                self.follower.start(copy=self._outlasts_registry)
                if self.notices:
                    self.notices.listen(self.follower.wake)
                self._runtime = wiring.start(
                    self.settings,
                    self.model,
                    self.known,
                    self.store,
                    self.access.policy,
                    self.recorder,
                    self.registry.canaries,
                )
                self.follower.listen(self._hear_of_revocations)
                self.follower.listen(self._runtime.answerer.fitting.look)
            return self._runtime

    def plan(self, only: Iterable[str] = ()) -> list[ModulePlan]:
        """What `build` would do, parents first. Computes nothing on the model.

        Raises:
            What `build` raises for what is wrong with the input.
        """
        self.identify()
        source, layout = self.source, self.layout
        of = (identity_of(source, layout), source.tokenizer, layout)
        return plan_build(self.settings, self.settings.modules, *of, self.registry, self.store, only=only)

    def identify(self) -> Identity:
        """The model and the layout as keys depend on them; remembered, so that `quire status` need not load either."""
        known = recall(self.settings) if self._source is None else None
        if known:
            return known
        identity = identity_of(self.source, self.layout)
        remember(self.settings, identity, self.source.directory, self.source.tokenizer)
        return identity

    def build(
        self, only: Iterable[str] = (), *, progress: BuildProgress | None = None, publish: bool = True
    ) -> BuildReport:
        """Bring modules (all, or `only` these with their ancestors) and the route table up to date, and make them live.

        Without `publish` what is compiled and tested stays candidate, as for a canary.

        Raises:
            BuildBusy, BuildInterrupted; SourceError, CompileError, StoreError for what is wrong with the input. That
            golden tests failed is no error: see the report's `red` and `withheld`.
        """
        self.narrow()  # whatever else comes of it, and whoever else is building
        with build_lock(self.settings.state):
            self.store.sweep()
            plans = self.plan(only)
            self.warn_of_network()
            read = {plan.spec.module_id: plan.documents for plan in plans}
            self.mark(read)
            report = run_build(
                plans,
                lambda: self.model,
                self.registry,
                self.store,
                progress or Silent(),
                actor=actor(),
                routes=lambda records: draft_routes(self.settings, self.registry, records, read).draft,
                ask=self.test,
                publish=publish,
            )
            self.mark(read)
            return report

    def warn_of_network(self) -> None:
        """Log where state or model lie on a network file system, which may have no locks and shows changes late."""
        warn_of_network({"the project's state is": self.settings.state, "the model is": self.source.directory})

    def narrow(self, checkout: Checkout | None = None) -> list[VersionRecord]:
        """Take readers away from what is compiled, where `acl` leaves them out by now: at once, on every gateway.

        Gives the versions that changed. Who may read more than before waits for the version that says so. Mutates the
        registry; the route table follows, where the sources can be read.

        `checkout`: that of a server which reports by itself.
        """
        declared = {spec.module_id: spec.scope for spec in self.settings.modules}
        reporting = checkout or self._checkout
        changed = reporting.report_acls(self.registry, declared)
        if changed:
            # Nobody gets in by an old table: who may read is asked of the version.
            with suppress(SourceError, InvalidSetting):
                publish_routes(self.settings, self.registry, actor=reporting.actor, reason="acl changed")
        return changed

    def assess(self, read: Mapping[str, Sequence[Document]] | None = None) -> list[Assessment]:
        """What of the declared modules is stale. Computes and changes nothing. `read`: sources that were read already.

        Raises:
            ParentUnknown, ParentCycle, RegistryError; ModelError, LayoutError for what cannot be identified.
        """
        return assess(self.settings, self.registry, self.identify(), read=read)

    def mark(
        self, read: Mapping[str, Sequence[Document]] | None = None, *, checkout: Checkout | None = None
    ) -> list[VersionRecord]:
        """Note in the registry what is stale, for all gateways; gives the versions of which that is news. Mutates.

        Leaves out versions that this checkout never agreed with. `checkout`: that of a server which reports by itself.
        """
        return (checkout or self._checkout).report_stale(self.registry, self.assess(read))

    def test(
        self,
        wanted: Sequence[tuple[VersionRecord, Suite]],
        told: Callable[[int, int], None] = lambda done, total: None,
        *,
        keep: bool = True,
        by: str | None = None,
        reason: str = "they were run",
    ) -> list[GoldenRun]:
        """Ask versions their golden tests, greedily and together, and keep the results in the registry.

        Args:
            told: the number of answers so far, and of questions.
            keep: False for a part of a suite, which says nothing about the whole.
            by: who tests; default: whoever is at this machine.

        Raises:
            NoLiveVersion (revoked or expired), ModelMismatch, ArtifactError, StoreError, EngineError.
        """
        trials = [Trial(self.registry.chain(record), suite) for record, suite in wanted]
        chunk = self.settings["build.prefill_chunk"]
        engine = {"model": self.model.facts.fingerprint, **asdict(numerics(self.model, chunk))}
        runs = try_versions(self.runtime.answerer, trials, told, actor=by or actor(), engine=engine)
        for run, trial in zip(runs, trials, strict=True):
            if keep:
                self.registry.golden.record(run, trial.suite, reason=reason)
        return runs

    def publish(self, record: VersionRecord, *, actor: str, reason: str) -> VersionRecord:
        """Make a version live; it is asked the golden tests that it declares first, if it was not yet.

        Raises:
            IllegalTransition, ChainBroken, GoldenFailed; and what `test` and `share` raise.
        """
        self.share([record])
        return self._once_asked(
            record, lambda: self.registry.publish(record.module_id, record.version, actor=actor, reason=reason), actor
        )

    def start_canary(
        self, record: VersionRecord, *, percent: int = 0, shadow: bool = False, actor: str, reason: str
    ) -> Canary:
        """Let a version answer a share of its module's requests, or be asked what the live one answered, or both.

        It is asked its golden tests first, if it was not yet. Raises as `Canaries.start`, and what `test` raises.
        """
        self.share([record])
        start = self.registry.canaries.start
        return self._once_asked(
            record, lambda: start(record, percent=percent, shadow=shadow, actor=actor, reason=reason), actor
        )

    def _once_asked(self, record: VersionRecord, change: Callable[[], T], actor: str) -> T:
        """`change`, after the golden tests that `record` declares, if it says that they were not run."""
        try:
            return change()
        except GoldenNotRun:
            suite = self.registry.golden.declared(record)
            if suite is None:
                raise
            self.test([(record, suite)], by=actor, reason="others are to see it")
            return change()

    def share(self, records: Iterable[VersionRecord]) -> int:
        """Put `records` and their ancestors into the object store, as before they go live; the bytes that were sent.

        Raises:
            ArtifactNotFound, ArtifactError, StoreUnreachable, StoreDenied, StoreError, ChainBroken.
        """
        return share_chains(self.registry, self.store, records, lambda _record, _bytes: None)

    def revoke(self, record: VersionRecord, *, actor: str, reason: str) -> tuple[VersionRecord, ...]:
        """Forbid a version, and all that was compiled after it, for good; gives those that it changed, parents first.

        Here they answer nothing from now on; what they are answering ends as `engine.on_revoke` says.
        """
        changed = self.registry.revoke(record.module_id, record.version, actor=actor, reason=reason)
        with self._lock:
            if self._runtime:
                self._runtime.revoked({one.digest for one in changed})
        return changed

    def _hear_of_revocations(self, _generation: int) -> None:
        if runtime := self._runtime:
            runtime.revoked(self.known.revoked_digests())

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
        return self.runtime.answerer.ask(question, LOCAL)

    def verify(self, record: VersionRecord, question: str, *, tokens: int = 24) -> Comparison:
        """Answer `question` from restored KV and by transformers' full prefill of the same token ids, and compare."""
        answerer = self.runtime.answerer
        prepared = answerer.prepare(Question((Turn("user", question),), module=str(record.ref)), LOCAL)
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
        """Stop answering and let go of all files. May be called twice; whoever forgets it has it done at exit."""
        with self._lock:
            if self._runtime:
                self._runtime.close(drain_seconds)
                self._runtime = None
            self.close_records()
            self._forget_exit()

    def close_records(self) -> None:
        """Write what waits to be written, and let go of registry and Redis. All that a process has to do that is to end
        while another thread still loads the model, which nothing can stop."""
        self.access.keys.close()
        self.limiter.close()
        self.recorder.close()
        if self.notices:
            self.notices.close()
        self.follower.close()
        if self.redis:
            self.redis.close()
        if self._owns_registry:
            self.registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Silent:
    """Build progress for nobody."""

    def starting(self, plan: ModulePlan) -> None:
        pass

    def advance(self, plan: ModulePlan, tokens: int) -> None:
        pass

    def finished(self, plan: ModulePlan) -> None:
        pass

    def tested(self, done: int, total: int) -> None:
        pass
