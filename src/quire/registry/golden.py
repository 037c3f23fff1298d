"""Golden tests in the registry: what a version declares, what came of it, and whether that lets it go live.

A version of a project with golden tests declares its suite when it is registered. A live one takes another suite only
with a run of it that is green, so what serves has always passed what it declares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from quire.errors import GoldenFailed, GoldenNotRun, RegistryUnreadable
from quire.golden import GoldenRun, Suite, Verdict
from quire.registry import catalogue, history
from quire.registry.audit import AuditLog
from quire.registry.audit.chain import time_text
from quire.registry.database import Database
from quire.registry.records import VersionRecord
from quire.registry.schema import golden_declared, golden_runs, golden_suites, versions


class GoldenTests:
    """What the registry knows of golden tests. Threads may share one. Raises RegistryError."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def declare(self, record: VersionRecord, suite: Suite | None, *, actor: str, reason: str) -> bool:
        """Let the version declare `suite`, or none; whether it does now. Mutates, and records `module.declare`.

        A live version declares no suite that it has not passed. Raises ModuleUnknown, VersionUnknown.
        """
        with self._audit.writing() as connection:
            present = catalogue.find(connection, record.module_id, record.version)
            return _declare_if_earned(connection, present, suite, actor=actor, reason=reason)

    def declared(self, record: VersionRecord) -> Suite | None:
        """The suite that the version declares."""
        with self._database.reading() as connection:
            checksum = declared(connection, record)
            return None if checksum is None else _suite(connection, checksum)

    def record(self, run: GoldenRun, suite: Suite, *, reason: str) -> None:
        """Keep what came of a run of all of `suite`. Mutates, and records `module.test`.

        A candidate then declares the suite, and so does any other version that passed it. Raises ModuleUnknown,
        VersionUnknown: it was forgotten meanwhile.
        """
        with self._audit.writing() as connection:
            present = catalogue.find(connection, run.module_id, run.version)
            _keep_suite(connection, suite)
            connection.execute(golden_runs.insert().values(_to_row(run)))
            details = {"suite": suite.checksum, "green": run.green, "questions": len(suite), "failed": len(run.failed)}
            history.note(
                connection,
                replace(present, digest=run.digest),
                "test",
                actor=run.actor,
                reason=f"{run.told}: {reason}",
                from_state=present.state,
                to_state=present.state,
                details=details,
            )
            if run.green or present.state == "candidate":
                _declare_if_earned(connection, present, suite, actor=run.actor, reason=reason)

    def newest(self, record: VersionRecord, suite: Suite | None = None) -> GoldenRun | None:
        """The last run of these bytes: of `suite`, or else of what the version declares, or else of any."""
        with self._database.reading() as connection:
            checksum = suite.checksum if suite else declared(connection, record)
            return newest(connection, record, checksum)

    def passed_by_live(self) -> dict[str, str]:
        """By module, the checksum of the suite that its live version declares, where the last run of it was green."""
        last = select(func.max(golden_runs.c.sequence)).group_by(
            golden_runs.c.module_id, golden_runs.c.version, golden_runs.c.digest, golden_runs.c.suite
        )
        query = (
            select(golden_runs.c.module_id, golden_runs.c.suite)
            .join(versions, (versions.c.module_id == golden_runs.c.module_id) & (versions.c.state == "live"))
            .join(golden_declared, golden_declared.c.module_id == golden_runs.c.module_id)
            .where(golden_declared.c.version == versions.c.version, golden_declared.c.suite == golden_runs.c.suite)
            .where(golden_runs.c.version == versions.c.version, golden_runs.c.digest == versions.c.digest)
            .where(golden_runs.c.sequence.in_(last), golden_runs.c.green)
        )
        with self._database.reading() as connection:
            return {row.module_id: row.suite for row in connection.execute(query)}

    def runs(self, module_id: str, limit: int = 100) -> list[GoldenRun]:
        """The last runs of the module's versions, newest first."""
        query = select(golden_runs).where(golden_runs.c.module_id == module_id)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(golden_runs.c.sequence.desc()).limit(limit)).mappings()
            return [_to_run(row) for row in rows]


def require_green(connection: Connection, record: VersionRecord) -> None:
    """Raises GoldenNotRun, GoldenFailed unless the version passed the suite it declares, on the bytes it has."""
    checksum = declared(connection, record)
    if checksum is None:
        return
    run = newest(connection, record, checksum)
    if run is None:
        raise GoldenNotRun(
            f"{record.ref} cannot go live: expected a run of the golden tests it declares"
            f" ({len(_suite(connection, checksum))} questions), found none on its bytes",
            hint=f"`quire test {record.ref}`",
        )
    if not run.green:
        raise GoldenFailed(
            f"{record.ref} cannot go live: {run.complaint}",
            hint=f"correct the sources or the golden file and build again; `quire test {record.ref}` asks once more",
        )


def declared(connection: Connection, record: VersionRecord) -> str | None:
    """The checksum of the suite that the version declares; None: it has no golden tests."""
    found: str | None = connection.execute(select(golden_declared.c.suite).where(_is(record))).scalar_one_or_none()
    return found


def newest(connection: Connection, record: VersionRecord, checksum: str | None) -> GoldenRun | None:
    """The last run on the version's bytes, of one suite or of any."""
    query = select(golden_runs).where(
        golden_runs.c.module_id == record.module_id,
        golden_runs.c.version == record.version,
        golden_runs.c.digest == record.digest,
    )
    if checksum is not None:
        query = query.where(golden_runs.c.suite == checksum)
    row = connection.execute(query.order_by(golden_runs.c.sequence.desc()).limit(1)).mappings().first()
    return None if row is None else _to_run(row)


def declare(connection: Connection, record: VersionRecord, suite: Suite | None, *, actor: str, reason: str) -> None:
    """Lets the version declare `suite`; nothing if it does. Notes it."""
    before = declared(connection, record)
    after = suite.checksum if suite else None
    if before == after:
        return
    connection.execute(golden_declared.delete().where(_is(record)))
    if suite is not None:
        _keep_suite(connection, suite)
        row = {"module_id": record.module_id, "version": record.version, "suite": suite.checksum}
        connection.execute(golden_declared.insert().values(row))
    history.note(
        connection,
        record,
        "declare",
        actor=actor,
        reason=reason,
        from_state=record.state,
        to_state=record.state,
        details={"before": before, "suite": after, "questions": len(suite) if suite else 0},
    )


def forget(connection: Connection, record: VersionRecord) -> None:
    """Removes what is kept of the version's tests; the audit log keeps that there were some, and how they ended."""
    connection.execute(golden_declared.delete().where(_is(record)))
    same = (golden_runs.c.module_id == record.module_id) & (golden_runs.c.version == record.version)
    connection.execute(golden_runs.delete().where(same))
    used = select(golden_declared.c.suite).union(select(golden_runs.c.suite))
    connection.execute(golden_suites.delete().where(golden_suites.c.checksum.not_in(used)))


def _declare_if_earned(
    connection: Connection, record: VersionRecord, suite: Suite | None, *, actor: str, reason: str
) -> bool:
    if record.state == "live" and suite is not None:
        run = newest(connection, record, suite.checksum)
        if run is None or not run.green:
            return False
    declare(connection, record, suite, actor=actor, reason=reason)
    return True


def _is(record: VersionRecord) -> ColumnElement[bool]:
    return (golden_declared.c.module_id == record.module_id) & (golden_declared.c.version == record.version)


def _keep_suite(connection: Connection, suite: Suite) -> None:
    there = select(golden_suites.c.checksum).where(golden_suites.c.checksum == suite.checksum)
    if connection.execute(there).first() is None:
        connection.execute(golden_suites.insert().values(checksum=suite.checksum, document=suite.document))


def _suite(connection: Connection, checksum: str) -> Suite:
    query = select(golden_suites.c.document).where(golden_suites.c.checksum == checksum)
    document = connection.execute(query).scalar_one_or_none()
    try:
        suite = Suite.parse(document or "")
        if suite.checksum != checksum:
            raise ValueError(f"its checksum is {suite.checksum}")
    except (ValueError, TypeError, KeyError) as error:
        raise RegistryUnreadable(
            f"the golden tests {checksum} do not read: {error}", hint="run `quire build`, which declares them again"
        ) from error
    return suite


def _to_row(run: GoldenRun) -> dict[str, object]:
    verdicts: Sequence[object] = [asdict(one) for one in run.verdicts]
    return {
        "module_id": run.module_id,
        "version": run.version,
        "digest": run.digest,
        "suite": run.suite,
        "green": run.green,
        "at": time_text(run.at),
        "actor": run.actor,
        "engine": json.dumps(dict(run.engine), sort_keys=True),
        "verdicts": json.dumps(verdicts),
    }


def _to_run(row: RowMapping) -> GoldenRun:
    try:
        verdicts = tuple(
            Verdict(**{**one, "unmet": tuple(one["unmet"]), "tags": tuple(one["tags"])})
            for one in json.loads(row["verdicts"])
        )
        run = GoldenRun(
            module_id=row["module_id"],
            version=row["version"],
            digest=row["digest"],
            suite=row["suite"],
            at=datetime.fromisoformat(row["at"]),
            actor=row["actor"],
            engine=json.loads(row["engine"]),
            verdicts=verdicts,
        )
        if run.green is not row["green"]:
            raise ValueError(f"green is {row['green']}, the verdicts say {run.green}")
    except (ValueError, TypeError, KeyError) as error:
        raise RegistryUnreadable(
            f"run {row['sequence']} of golden tests does not decode: {error}",
            hint=f"`quire test {row['module_id']}@{row['version']}` runs them again",
        ) from error
    return run
