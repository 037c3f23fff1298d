"""Bytes that change while they are in use: how they are kept from ending the process, and looked after.

What is read of a mapped file is what the file holds now. So the identities of an open module's files are compared with
those that they had when it was verified: at each lease, at the end of each answer, and every some seconds. Files that
were touched are compared with their digests again; only those that differ are damaged.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from quire.access import tenant_of
from quire.artifact import copy_file, map_file
from quire.errors import ModelChanged, ModuleChanged
from quire.model.kernels import GuardedRange
from quire.registry import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quire.model import HostMemory, LoadedModel
    from quire.registry import VersionRecord

log = logging.getLogger(__name__)

UNREADABLE = "a page of a file could not be read: the file was cut short, or the disk fails"


def reader(memory: HostMemory, guarded: list[GuardedRange]) -> Callable[[int, int], memoryview]:
    """What `open_artifact` reads files in with; ranges that are guarded are appended to `guarded`."""

    def protect(address: int, size: int) -> Callable[[], None]:
        if memory.guard is None:
            return lambda: None
        guarded.append(GuardedRange.of(memory.guard, address, size))
        return guarded[-1].release

    def read_in(file: int, size: int) -> memoryview:
        return copy_file(file, size) if memory.copies else map_file(file, size, protect)

    return read_in


class Watch:
    """A thread that calls each of `looks` every `interval` seconds until it is stopped. What they raise is logged."""

    def __init__(self, looks: Sequence[Callable[[], None]], interval: float) -> None:
        """`interval`: 0 for never."""
        self._looks = looks
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quire-integrity", daemon=True)
        if interval:
            self._thread.start()

    def stop(self) -> None:
        """Ends after the look in progress."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            for look in self._looks:
                try:
                    look()
                except Exception:  # it looks again after the interval
                    log.exception("files that are in use could not be looked at")


class ModelWatch:
    """Looks whether the files of a loaded model are as they were, and records once that they are not."""

    def __init__(self, model: LoadedModel, record: Callable[[AuditEvent], None]) -> None:
        self._model = model
        self._record = record
        self._told = False

    def look(self) -> None:
        """Compare files that were touched with what was loaded; what changed the model knows from then on. Mutates."""
        try:
            self._model.verify()
        except ModelChanged as change:
            if self._told:
                return
            self._told = True
            log.error("%s. %s", change.message, change.hint)
            facts = self._model.facts
            what = f"model {facts.name}"
            self._record(
                AuditEvent(kind="model.changed", who="quire", what=what, why=change.message, digest=facts.fingerprint)
            )


def changed(record: VersionRecord, why: str) -> ModuleChanged:
    """The error of requests that use a module whose bytes are not those it was verified from any more."""
    return ModuleChanged(
        f"the bytes of {record.ref} on this machine changed while it was in use: {why}",
        hint="do not use what was answered so far; `quire fsck --repair` and `quire build` make the module anew",
    )


def loss_event(record: VersionRecord, why: str, users: int) -> AuditEvent:
    """The audit record of an open module whose bytes changed. `users`: how often it was leased then."""
    return AuditEvent(
        kind="module.changed",
        who="quire",
        what=str(record.ref),
        why=why,
        digest=record.digest,
        tenant=tenant_of(record.scope, record.tenant_id),
        module=record.module_id,
        details={"users": users},
    )
