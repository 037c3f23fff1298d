"""Canaries as other packages see them: begun, read, ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection

from quire.errors import CanaryRunning, IllegalTransition, InvalidSetting, NoCanary
from quire.registry import canary_rows, catalogue, golden, lifecycle
from quire.registry.audit import AuditLog
from quire.registry.audit.chain import time_text
from quire.registry.canary_rows import Canary
from quire.registry.database import Database
from quire.registry.records import VersionRecord
from quire.registry.schema import canaries


class Canaries:
    """Threads may share one. Raises RegistryError."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def start(self, record: VersionRecord, *, percent: int, shadow: bool, actor: str, reason: str) -> Canary:
        """Let `record` answer `percent` of its module's requests, and if `shadow` be asked the others too. Mutates.

        Raises:
            IllegalTransition: it is live or revoked, or an ancestor is; ChainBroken.
            NoLiveVersion: there is nothing to compare it with. CanaryRunning: the module has one.
            GoldenFailed, GoldenNotRun: nobody gets to see a version that may not go live.
            InvalidSetting: a share that is none.
        """
        if not 0 <= percent <= 100 or not (percent or shadow):
            raise InvalidSetting(
                f"a canary takes a share from 1 to 100 percent, or runs in the shadow; found {percent}",
                hint="e.g. --canary 10, or --shadow",
            )
        with self._audit.writing() as connection:
            present = catalogue.find(connection, record.module_id, record.version)
            live = catalogue.live(connection, record.module_id)
            _check_eligible(connection, present)
            number = connection.execute(
                canaries.insert().values(
                    module_id=present.module_id,
                    version=present.version,
                    digest=present.digest,
                    against=live.version,
                    percent=percent,
                    shadow=shadow,
                    started_at=time_text(datetime.now(UTC)),
                    started_by=actor,
                    reason=reason,
                    figures=json.dumps({}),
                )
            ).inserted_primary_key
            canary = next(one for one in canary_rows.running(connection, present.module_id))
            if number is None or canary.number != number[0]:
                raise IllegalTransition(f"the canary of {present.ref} was not kept")
            details = {"percent": percent, "shadow": shadow, "against": live.version}
            canary_rows.note(connection, "canary.start", canary, present, actor=actor, reason=reason, details=details)
            return canary

    def stop(self, module_id: str, *, actor: str, reason: str) -> Canary:
        """End the module's canary: all requests go to the live version again. Mutates. Raises NoCanary."""
        with self._audit.writing() as connection:
            found = _running(connection, module_id)
            record = catalogue.find(connection, module_id, found.version)
            canary_rows.end(connection, found, record, actor=actor, reason=reason)
            return canary_rows.newest(connection, module_id, 1)[0]

    def running(self) -> list[Canary]:
        """All that are, by module. Cheap."""
        with self._database.reading() as connection:
            return canary_rows.running(connection)

    def current(self, module_id: str) -> Canary:
        """The module's canary that runs. Raises NoCanary."""
        with self._database.reading() as connection:
            return _running(connection, module_id)

    def newest(self, module_id: str | None = None, limit: int = 20) -> list[Canary]:
        """The last that were begun, of one module or of all, ended or not; newest first."""
        with self._database.reading() as connection:
            return canary_rows.newest(connection, module_id, limit)

    def add(self, seen: Mapping[int, Mapping[str, int]]) -> None:
        """Add to the figures of canaries, by number. Mutates; says nothing in the audit log before the end."""
        with self._database.writing() as connection:
            for number, figures in seen.items():
                canary_rows.add(connection, number, figures)


def _running(connection: Connection, module_id: str) -> Canary:
    found = canary_rows.running(connection, module_id)
    if not found:
        raise NoCanary(f"no canary of {module_id} is running", hint="`quire canary ls` lists those that are")
    return found[0]


def _check_eligible(connection: Connection, record: VersionRecord) -> None:
    if record.state not in ("candidate", "retired"):
        raise IllegalTransition(
            f"a canary needs a version that is candidate or retired, found {record.ref} {record.state}",
            hint="compile another one with `quire build --no-publish`" if record.state == "live" else "build another",
        )
    for other in canary_rows.running(connection, record.module_id):
        raise CanaryRunning(
            f"{record.module_id} has a canary already: {other.ref} beside {other.against}",
            hint=f"`quire canary stop {record.module_id}` or `quire canary promote {record.module_id}` first",
        )
    lifecycle.check_ancestors(connection, record)
    golden.require_green(connection, record)
