"""`quire build`: bring every module of a project up to date, and make the result live as a whole."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from quire.compiler.compiling import compile_module, open_parents
from quire.errors import ArtifactNotFound, BuildBusy, BuildInterrupted, StoreError
from quire.model import check_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType

    from quire.compiler.planning import ModulePlan
    from quire.core import ModuleRef
    from quire.model import LoadedModel
    from quire.registry import Registry, VersionRecord
    from quire.store import Store


class BuildProgress(Protocol):
    """Told what a build does; the command line draws it."""

    def starting(self, plan: ModulePlan) -> None: ...

    def advance(self, plan: ModulePlan, tokens: int) -> None: ...

    def finished(self, plan: ModulePlan) -> None: ...


@dataclass(slots=True)
class BuildReport:
    """What a build did, in build order."""

    compiled: list[ModuleRef] = field(default_factory=list)
    published: list[ModuleRef] = field(default_factory=list)
    current: list[ModuleRef] = field(default_factory=list)


def run_build(
    plans: Sequence[ModulePlan],
    load_model: Callable[[], LoadedModel],
    registry: Registry,
    store: Store,
    progress: BuildProgress,
    *,
    actor: str,
) -> BuildReport:
    """Compile what must be compiled, then publish everything that is not live in one step.

    Each finished module is registered at once, so a build that is interrupted goes on from there. Until the last step
    the versions that were live stay live. The model is loaded only when something has to be compiled.

    Raises:
        BuildInterrupted: SIGINT or SIGTERM; ModelUnsupported; and what `compile_module` raises.
    """
    report = BuildReport()
    model: LoadedModel | None = None
    replaced: list[str] = []
    with _stoppable() as stop_asked:
        for plan in plans:
            if plan.action == "compile":
                progress.starting(plan)
                if model is None:
                    check_exact(model := load_model())
                if plan.record:
                    replaced.append(plan.record.digest)
                plan.record = _compile(plan, model, registry, store, progress, stop_asked, actor)
                progress.finished(plan)
                report.compiled.append(plan.record.ref)
    waiting = [(plan, plan.record) for plan in plans if plan.record and plan.record.state != "live"]
    if waiting:
        registry.publish_many(
            [(record.module_id, record.version) for _, record in waiting], actor=actor, reason="build"
        )
    _drop(replaced, registry, store)
    report.published = [record.ref for _, record in waiting]
    report.current = [plan.record.ref for plan in plans if plan.record and plan.action == "current"]
    return report


def _drop(replaced: Sequence[str], registry: Registry, store: Store) -> None:
    """Remove artifacts whose version was compiled again to other bytes; those in use are left to garbage collection."""
    for digest in set(replaced) - registry.referenced_digests():
        with suppress(ArtifactNotFound):
            store.delete(digest)


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
        if stop_asked.is_set():
            raise BuildInterrupted(
                f"stopped while compiling {plan.spec.module_id}",
                hint="run the build again: finished modules are kept",
            )

    parents = open_parents(plan, store)
    try:
        return compile_module(plan, model, parents, registry, store, advance=advance, actor=actor)
    finally:
        parents.close()


@contextmanager
def build_lock(state: Path) -> Iterator[None]:
    """Hold the project's build lock; released by the system when the process dies, however it dies.

    Raises:
        BuildBusy, StoreUnwritable, StoreFull.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state / "build.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError.from_os(error, state) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a flag read between prefill steps; the second acts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
