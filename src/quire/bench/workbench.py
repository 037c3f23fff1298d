"""A throw-away project with one document compiled: what every section measures on."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.access import LOCAL
from quire.bench.document import Subject, read_subject
from quire.bench.machine import Machine, describe_machine
from quire.core import ModuleSpec, Scope, Turn
from quire.errors import StoreError
from quire.model.kv import TORCH_DTYPES
from quire.project import Project
from quire.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from quire.bench.figures import Say
    from quire.bench.options import Options
    from quire.compiler import ModulePlan
    from quire.model import LoadedModel
    from quire.pool import ChainLease
    from quire.registry import VersionRecord

MODULE = "document"


@dataclass(frozen=True, slots=True)
class Workbench:
    """The compiled document and all that belongs to it. `work`: a directory that is removed at the end."""

    project: Project
    plan: ModulePlan
    record: VersionRecord
    subject: Subject
    machine: Machine
    options: Options
    work: Path
    say: Say

    @property
    def model(self) -> LoadedModel:
        return self.project.model

    @property
    def token_ids(self) -> list[int]:
        """The document's token ids, markers included."""
        return self.plan.token_ids

    @property
    def artifact(self) -> Path:
        """Where the compiled document lies."""
        return self.project.store.locate(self.record.digest)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the document's KV."""
        return self.record.token_count * self.model.geometry.bytes_per_token

    def lease(self) -> ChainLease:
        """The document's KV, in place."""
        return self.project.runtime.pool.lease([self.record], LOCAL)

    def suffix_ids(self, question: str) -> list[int]:
        """Token ids of `question` as the engine gets them."""
        turns = [Turn("user", question)]
        return [t for segment in self.plan.layout.suffix_segments(self.model.tokenizer, turns, {}) for t in segment]

    def unmap(self) -> None:
        """Let go of the document's files, so that only other processes map them."""
        gc.collect()  # a finished request may still hold its chain in a cycle
        self.project.runtime.pool.close()

    def order(self, **more: Any) -> dict[str, Any]:
        """What another process needs to open the same project, and `more`."""
        settings = self.project.settings
        return {"root": str(settings.root), "values": dict(settings.values), "module": MODULE, **more}


@contextmanager
def open_workbench(options: Options, say: Say) -> Iterator[Workbench]:
    """Compile the document into a new directory; remove all of it afterwards, also when the process is terminated.

    Raises:
        SourceError, ModelError, CompileError, StoreError, SettingsError for what is wrong with the input.
    """
    with _ending_on_terminate(), _directory(options.work) as work:
        subject = read_subject(options.document, options.article, options.questions, work)
        with Project(_settings(options, subject, work), say=say) as project:
            say("loading the model")
            dtype = TORCH_DTYPES[project.model.geometry.dtype]
            say("measuring the machine")
            machine = describe_machine(work, dtype)
            say(f"compiling {subject.name}")
            project.build()
            plan = project.plan()[0]
            record = project.registry.resolve(MODULE)
            yield Workbench(project, plan, record, subject, machine, options, work, say)


def _settings(options: Options, subject: Subject, work: Path) -> Any:
    base = load_settings(None, os.environ, root=work)
    chosen: dict[str, Any] = {
        "store.path": ".quire",
        "store.url": "",  # what is compiled here is nobody else's; `fetch` looks there by itself
        "engine.max_sequences": options.sequences,
        "project.name": "bench",
    }
    if options.model is not None:
        chosen["model.path"] = options.model
    if options.threads:
        chosen["model.threads"] = options.threads
    spec = ModuleSpec(MODULE, (subject.source.name,), None, subject.name, base["project.tenant"], Scope("public"))
    return replace(base, values={**base.values, **chosen}, modules=(spec,))


@contextmanager
def _directory(parent: Path | None) -> Iterator[Path]:
    try:
        work = Path(tempfile.mkdtemp(prefix="quire-bench-", dir=parent)).resolve()
    except OSError as error:
        raise StoreError.from_os(error, parent or Path(tempfile.gettempdir())) from error
    try:
        yield work
    finally:
        shutil.rmtree(work)


@contextmanager
def _ending_on_terminate() -> Iterator[None]:
    """Make SIGTERM an ordinary exit, so that processes are ended and files removed.

    One is enough: `timeout` sends it to us and to our group, and the second must not end the cleaning up.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
