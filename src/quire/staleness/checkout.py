"""Which versions one checkout of the sources may mark stale, and what it last reported about each of them.

Servers with different checkouts can share a registry. A version is judged against the sources that it was built from.
Therefore a checkout reports on a version only if it *agreed* with that version before: a build from the checkout would
have made the same version. It reports when its own files changed, and at the start of a process, but never because the
registry holds another report. So two checkouts cannot overwrite each other's marks in turn (decision 30).
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from quire.artifact import canonical, digest_bytes
from quire.registry import Mark
from quire.telemetry import fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from quire.core import Scope
    from quire.registry import Registry, Trigger, VersionRecord
    from quire.settings import Settings
    from quire.staleness.assessing import Assessment

log = logging.getLogger(__name__)

AGREES = ""  # the report on a version that a build from this checkout would make again
LEFT_SECONDS = 60.0  # after which a file that was to take the place of the reports is nobody's any more
KEPT = 1000  # reports on versions that are not live, in the file


class Checkout:
    """The reports of one process, and a file in the state directory for the next process. Use it from one thread.

    A report is keyed by ``module@version``: `AGREES`, or a digest of the reasons why the version is stale; or by
    ``module``: the acl that this checkout declares, once it agreed with a version of that module.

    `actor`: the name in the audit log. `foreign`: live versions that this checkout never agreed with, and the triggers
    by which they differ; set by `report_stale`.
    """

    def __init__(self, settings: Settings, *, actor: str, machine: bool = False) -> None:
        """`machine`: a server reports by itself. A person's command (build, narrow) also clears marks that other
        checkouts set, and applies its acls whether or not they changed.
        """
        self.actor = actor
        self.foreign: dict[str, tuple[Trigger, ...]] = {}
        self._machine = machine
        self._file = _file_of(settings)
        self._reported: dict[str, str] = {}
        self._deferred: dict[str, tuple[str, datetime]] = {}  # the report, and when to try it again
        self._taken_away: dict[str, str] = {}  # by module that it never agreed with: the acl it has applied

    def report_stale(self, registry: Registry, assessments: Iterable[Assessment]) -> list[VersionRecord]:
        """Mark live versions that this checkout left behind, and clear marks where it agrees again. Returns the records
        that changed. Mutates the registry and the state directory. Raises RegistryError.
        """
        stored = self._read()
        unchanged: dict[str, str] = {}
        marks: dict[str, Mark] = {}
        self.foreign = {}
        for one in assessments:
            if (live := one.live) is None or one.problem:
                continue
            mark = Mark(live.module_id, live.version, one.reasons, one.spec.stale)
            name, report = str(live.ref), _digest(mark)
            last = self._last(name, stored)
            if report == AGREES:
                if self._last(live.module_id, stored) is None:
                    unchanged[live.module_id] = str(one.spec.scope)
                is_due = live.stale is not None and (bool(last) or not self._machine)
            elif last is None:
                self.foreign[name] = tuple(dict.fromkeys(reason.trigger for reason in mark.reasons))
                continue
            else:
                is_due = last != report or (name not in self._reported and live.stale is None)
            if not is_due:
                unchanged[name] = report
            elif not self._is_deferred(registry, name, report):
                marks[name] = mark
        changed = registry.mark(marks.values(), actor=self.actor, machine=self._machine)
        refused = registry.differing(marks.values()) if self._machine else []
        reports = {name: _digest(mark) for name, mark in marks.items()}
        self._store(registry, stored, unchanged, reports, {name for name, mark in marks.items() if mark in refused})
        return changed

    def report_acls(self, registry: Registry, declared: Mapping[str, Scope]) -> list[VersionRecord]:
        """Narrow the readers of modules whose `declared` acl changed in this checkout, or give them back. Returns the
        records that changed. Mutates the registry and the state directory. Raises RegistryError.

        A server whose checkout never agreed with a module takes readers away once, and gives none back: a fresh
        container with a narrower acl must not wait for a build.
        """
        stored = self._read()
        unchanged: dict[str, str] = {}
        acls: dict[str, Scope] = {}
        foreign: dict[str, Scope] = {}
        for name, scope in declared.items():
            report, last = str(scope), self._last(name, stored)
            if self._machine and last == report:
                unchanged[name] = report
            elif self._machine and last is None:
                if self._taken_away.get(name) != report:
                    foreign[name] = scope
            elif not self._machine or not self._is_deferred(registry, name, report):
                acls[name] = scope
        changed = registry.narrow(foreign, actor=self.actor, machine=True, gives_back=False) if foreign else []
        self._taken_away |= {name: str(scope) for name, scope in foreign.items()}
        changed += registry.narrow(acls, actor=self.actor, machine=self._machine) if acls else []
        refused = {name for name, scope in acls.items() if self._machine and registry.is_to_narrow({name: scope})}
        self._store(registry, stored, unchanged, {name: str(scope) for name, scope in acls.items()}, refused)
        return changed

    def agreed_with(self, version: VersionRecord) -> bool:
        """Whether this checkout agreed with `version` at some time. Reads the file."""
        return str(version.ref) in {**self._read(), **self._reported}

    def has_due(self, registry: Registry) -> bool:
        """Whether a report was deferred because it came too often, and can be tried again now."""
        now = registry.audit.folding.now()
        return any(at <= now for _, at in self._deferred.values())

    def _last(self, name: str, stored: Mapping[str, str]) -> str | None:
        return self._reported.get(name, stored.get(name))

    def _is_deferred(self, registry: Registry, name: str, report: str) -> bool:
        deferred = self._deferred.get(name)
        return deferred is not None and deferred[0] == report and deferred[1] > registry.audit.folding.now()

    def _store(
        self,
        registry: Registry,
        stored: dict[str, str],
        unchanged: Mapping[str, str],
        reports: Mapping[str, str],
        refused: set[str],
    ) -> None:
        """Keep `unchanged` and the `reports` that the registry took, and defer those it `refused`. Mutates the file."""
        folding = registry.audit.folding
        taken = {**unchanged, **{name: report for name, report in reports.items() if name not in refused}}
        for name in taken:
            self._deferred.pop(name, None)
        for name in refused:
            self._deferred[name] = (reports[name], folding.now() + folding.window)
        self._reported |= taken
        if not taken.items() <= stored.items():
            others = [name for name in stored if name not in taken and "@" in name]
            for name in others[:-KEPT]:
                del stored[name]
            self._write({**stored, **taken})

    def _read(self) -> dict[str, str]:
        """The reports of earlier processes. A file that is damaged or not there holds none."""
        try:
            stored = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        pairs = stored.items() if isinstance(stored, dict) else ()
        return {name: value for name, value in pairs if isinstance(value, str)}

    def _write(self, reports: Mapping[str, str]) -> None:
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(reports, indent=0), encoding="utf-8")
            part.replace(self._file)
        except OSError as error:  # this process knows its own reports
            log.warning("a restart will not know what this checkout agreed with", extra=fields(why=str(error)))
            with suppress(OSError):
                part.unlink(missing_ok=True)
        with suppress(OSError):  # the next write tries again
            for left in self._file.parent.glob(f"{self._file.name}.*"):  # by processes that were killed
                if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                    left.unlink()


def _file_of(settings: Settings) -> Path:
    """In the state directory. If that lies outside of the checkout, other checkouts may share it: the name then has a
    digest of the machine and the checkout's path."""
    root, state = settings.root.resolve(), settings.state.resolve()
    if state.is_relative_to(root):
        return state / "checkout.json"
    return state / f"checkout-{digest_bytes(f'{platform.node()} {root}'.encode())[3:19]}.json"


def _digest(mark: Mark) -> str:
    """`AGREES` for a mark without reasons."""
    if not mark.reasons:
        return AGREES
    reasons = [[r.trigger, r.text, r.subject, r.expected, r.found] for r in mark.reasons]
    return digest_bytes(canonical([mark.then, reasons]))
