"""`quire build`: bring every module of a project up to date, and make the result live as a whole."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from quire.compiler.compiling import compile_module, open_parents
from quire.compiler.outputs import OutputComparison, compare_outputs
from quire.compiler.reissuing import kv_of_ancestors, reissue_module
from quire.compiler.renewing import due, renew
from quire.compiler.sharing import share_chains
from quire.compiler.testing import run_tests, withheld
from quire.errors import ArtifactError, ArtifactNotFound, BuildBusy, BuildInterrupted, StoreError, StoreUnreadable
from quire.locking import flock
from quire.model import check_exact
from quire.stopping import stop_signals

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from quire.compiler.planning import ModulePlan
    from quire.compiler.testing import Ask
    from quire.core import ModuleRef
    from quire.golden import GoldenRun
    from quire.model import LoadedModel
    from quire.registry import Registry, RouteDraft, VersionRecord
    from quire.store import Store


class BuildProgress(Protocol):
    """Told what a build does; the command line draws it."""

    def starting(self, plan: ModulePlan) -> None: ...

    def advance(self, plan: ModulePlan, tokens: int) -> None: ...

    def finished(self, plan: ModulePlan) -> None: ...

    def tested(self, done: int, total: int) -> None: ...


@dataclass(slots=True)
class BuildReport:
    """What a build did, in build order. `routes`: digest of the route table, if another one came into force.

    `reissued`: got a manifest for KV that was there. `renewed`: got a new expiry.
    `tested`: the golden tests that were run. `withheld`: modules that did not go live, and why; what was live
    serves on. `compared`: golden answers of versions against those of the ones they replace.
    """

    compiled: list[ModuleRef] = field(default_factory=list)
    reissued: list[ModuleRef] = field(default_factory=list)
    renewed: list[ModuleRef] = field(default_factory=list)
    published: list[ModuleRef] = field(default_factory=list)
    current: list[ModuleRef] = field(default_factory=list)
    routes: str | None = None
    tested: list[GoldenRun] = field(default_factory=list)
    withheld: dict[str, str] = field(default_factory=dict)
    compared: list[OutputComparison] = field(default_factory=list)

    @property
    def red(self) -> list[GoldenRun]:
        """The golden tests that failed."""
        return [run for run in self.tested if not run.green]


def run_build(
    plans: Sequence[ModulePlan],
    load_model: Callable[[], LoadedModel],
    registry: Registry,
    store: Store,
    progress: BuildProgress,
    *,
    actor: str,
    routes: Callable[[Sequence[VersionRecord]], RouteDraft] | None = None,
    ask: Ask | None = None,
    publish: bool = True,
) -> BuildReport:
    """Compile what must be compiled, ask what has golden tests, then publish everything that is not live in one step.

    `routes` makes the route table that comes into force in the same step, of the records that will be live. `ask` runs
    golden tests; without it what has not passed them already is not published: GoldenNotRun.

    Without `publish` nothing goes live: candidates stay candidates, as for a canary.

    A version that fails its golden tests does not go live, nor does what was compiled after it; all others do. What was
    revoked is left out, and what would stand on it.

    Each finished module is registered at once, so a build that is interrupted goes on from there. Until the last step
    the versions that were live stay live, and nothing goes live before the object store has it, where there is one. The
    model is loaded only when something has to be compiled.

    Raises:
        BuildInterrupted: SIGINT or SIGTERM; ModelUnsupported; and what `compile_module` raises.
    """
    report = BuildReport()
    model: LoadedModel | None = None
    replaced: list[str] = []
    with stop_signals() as stop_asked:
        for plan in plans:
            if plan.action == "reissue" and (reissued := _reissue(plan, registry, store, actor)):
                plan.record = reissued
                report.reissued.append(reissued.ref)
            if plan.action == "compile":
                progress.starting(plan)
                if model is None:
                    check_exact(model := load_model())
                if plan.record:
                    replaced.append(plan.record.digest)
                plan.record = _compile(plan, model, registry, store, progress, stop_asked, actor)
                progress.finished(plan)
                report.compiled.append(plan.record.ref)
            if plan.record and plan.action != "withhold" and due(plan.record, plan.spec):
                plan.record = renew(plan, plan.record, registry, actor=actor)
                report.renewed.append(plan.record.ref)
        if ask:
            report.tested = run_tests(plans, registry, ask, _stopping(progress, stop_asked), actor=actor)
            report.compared = compare_outputs(plans, registry, ask, _stopping(progress, stop_asked), actor=actor)
        report.withheld = withheld(plans, report.tested)
        going = [plan.record for plan in plans if plan.record and plan.spec.module_id not in report.withheld]
        waiting = [record for record in going if record.state != "live"] if publish else []
        share_chains(registry, store, waiting, lambda _, __: _check_stop(stop_asked, "sending to the object store"))
    draft = routes(going) if routes and publish else None
    if draft and draft.digest != registry.routes.digest_in_force():
        report.routes = draft.digest
    if waiting or report.routes:
        wanted = [(record.module_id, record.version) for record in waiting]
        registry.publish_many(wanted, draft, actor=actor, reason="build")
    _drop(replaced, registry, store)
    report.current = [plan.record.ref for plan in plans if plan.record and plan.action in ("current", "renew")]
    report.published = [record.ref for record in waiting]
    return report


def _stopping(progress: BuildProgress, stop_asked: threading.Event) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        progress.tested(done, total)
        if stop_asked.is_set():
            raise BuildInterrupted(
                f"stopped after {done} of {total} golden tests", hint="run the build again: what is compiled is kept"
            )

    return told


def _check_stop(asked: threading.Event, doing: str) -> None:
    if asked.is_set():
        raise BuildInterrupted(f"stopped while {doing}", hint="run the build again: what is finished is kept")


def _drop(replaced: Sequence[str], registry: Registry, store: Store) -> None:
    """Remove artifacts whose version was compiled again to other bytes; those in use are left to garbage collection."""
    for digest in set(replaced) - registry.referenced_digests():
        with suppress(ArtifactNotFound):
            store.delete(digest)


def _reissue(plan: ModulePlan, registry: Registry, store: Store, actor: str) -> VersionRecord | None:
    """The reissued version. None, and the plan is to compile it, where the KV turns out not to be what it should be."""
    if kv_of_ancestors(plan) is not None:
        try:
            return reissue_module(plan, registry, store, actor=actor)
        except (ArtifactError, ArtifactNotFound, StoreUnreadable):
            pass  # its bytes are damaged, gone or out of reach: they are computed again
    plan.action, plan.donor = "compile", None
    return None


def _compile(
    plan: ModulePlan,
    model: LoadedModel,
    registry: Registry,
    store: Store,
    progress: BuildProgress,
    stop_asked: threading.Event,
    actor: str,
) -> VersionRecord:
    def advance(tokens: int) -> None:
        progress.advance(plan, tokens)
        _check_stop(stop_asked, f"compiling {plan.spec.module_id}")

    parents = open_parents(plan, store)
    try:
        return compile_module(plan, model, parents, registry, store, advance=advance, actor=actor)
    finally:
        parents.close()


@contextmanager
def build_lock(state: Path) -> Iterator[None]:
    """Hold the project's build lock; released by the system when the process dies, however it dies.

    Raises:
        BuildBusy, LocksUnavailable, StoreUnwritable, StoreFull.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state / "build.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError.from_os(error, state) from error
    try:
        try:
            flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, state / "build.lock")
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise BuildBusy(
                f"another build of {state.parent} is running (process {owner})",
                hint="wait for it, then build again",
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise StoreError.from_os(error, state) from error
        yield
    finally:
        os.close(descriptor)
