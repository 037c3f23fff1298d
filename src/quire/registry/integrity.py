"""Looking for what is wrong with the catalogue. Changes nothing.

database    SQLite's own check of its pages and of foreign keys
schema      a table or index that this revision should have is not there
row         a row that does not decode
manifest    not JSON, or it says something else than the row, or its digest is not the row's
parent      not registered, or recompiled with other bytes
ancestor    a live version stands on one that is neither live nor retired
live        more than one live version of a module
history     the last entry about a version ends in another state than its row, or there is none
golden      a live version whose last run of the golden tests it declares is not there, or not green
routes      a route table that is in force and not there, or has other bytes than its digest says
audit       a record of the audit log was changed, removed or put elsewhere; see `audit.checking`
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

from sqlalchemy import Connection, inspect, select, text

from quire.artifact.identity import digest_bytes
from quire.core import State
from quire.errors import ChainBroken, GoldenError, RegistryUnreadable
from quire.registry import catalogue, golden, history, routes
from quire.registry.audit import chain
from quire.registry.records import Finding, VersionRecord
from quire.registry.rows import to_record
from quire.registry.schema import AUDIT_TRIGGERS, audit_log, metadata, route_tables, versions

DigestOf = Callable[[str], str]


def findings(connection: Connection, digest_of: DigestOf | None) -> Iterator[Finding]:
    """Everything found. A check that the damage itself makes impossible raises RegistryUnreadable."""
    if connection.dialect.name == "sqlite":
        yield from _pages(connection)
    yield from _schema(connection)
    present: list[VersionRecord] = []
    for row in connection.execute(select(versions).order_by(versions.c.sequence)).mappings():
        try:
            present.append(to_record(row))
        except RegistryUnreadable as error:
            yield Finding("row", f"{row['module_id']}@{row['version']}", error.message)
    yield from _live(present)
    for record in present:
        yield from _manifest(record, digest_of)
        yield from _chain(connection, record)
        yield from _golden(connection, record)
    yield from _history(connection, present)
    yield from _routes(connection)


def _pages(connection: Connection) -> Iterator[Finding]:
    for (said,) in connection.execute(text("PRAGMA integrity_check")):
        if said != "ok":
            yield Finding("database", "pages", str(said))
    for table, row, parent, _ in connection.execute(text("PRAGMA foreign_key_check")):
        yield Finding("database", f"{table} row {row}", f"refers to a row of {parent} that is not there")


def _schema(connection: Connection) -> Iterator[Finding]:
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in present:
            yield Finding("schema", table.name, "the table is not there")
            continue
        indexes = {index["name"] for index in inspector.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                yield Finding("schema", str(index.name), f"the index of {table.name} is not there")
    yield from _triggers(connection)


def _live(present: list[VersionRecord]) -> Iterator[Finding]:
    counts = Counter(record.module_id for record in present if record.state == "live")
    for module_id, count in counts.items():
        if count > 1:
            yield Finding("live", module_id, f"expected one live version, found {count}")


def _golden(connection: Connection, record: VersionRecord) -> Iterator[Finding]:
    if record.state != "live":
        return
    try:
        golden.require_green(connection, record)
    except (GoldenError, RegistryUnreadable) as error:
        yield Finding("golden", str(record.ref), error.message)


def _manifest(record: VersionRecord, digest_of: DigestOf | None) -> Iterator[Finding]:
    subject = str(record.ref)
    try:
        manifest = json.loads(record.manifest)
    except ValueError as error:
        yield Finding("manifest", subject, f"not JSON: {error}")
        return
    if not isinstance(manifest, dict):
        yield Finding("manifest", subject, f"expected a JSON object, found {type(manifest).__name__}")
        return
    for name in ("module_id", "version", "key"):
        found = manifest.get(name, getattr(record, name))
        if found != getattr(record, name):
            yield Finding("manifest", subject, f"{name}: the row has {getattr(record, name)}, found {found}")
    if digest_of is not None and (found := digest_of(record.manifest)) != record.digest:
        yield Finding("manifest", subject, f"digest: the row has {record.digest}, found {found}")


def _chain(connection: Connection, record: VersionRecord) -> Iterator[Finding]:
    try:
        ancestors = catalogue.chain(connection, record)[:-1]
    except ChainBroken as error:
        yield Finding("parent", str(record.ref), error.message)
        return
    except RegistryUnreadable:
        return  # the ancestor's row has its own finding
    for ancestor in ancestors:
        if record.state == "live" and ancestor.state not in ("live", "retired"):
            yield Finding("ancestor", str(record.ref), f"it is live on {ancestor.ref}, found {ancestor.state}")


def _history(connection: Connection, present: list[VersionRecord]) -> Iterator[Finding]:
    last: dict[tuple[str, str], State | None] = {}
    for row in chain.rows(connection, select(audit_log).where(audit_log.c.kind.startswith("module."))):
        with suppress(RegistryUnreadable):  # the record has its own finding
            entry = history.to_entry(chain.to_record(row))
            last[entry.module_id, entry.version] = entry.to_state
    for record in present:
        said = last.get((record.module_id, record.version))
        if said != record.state:
            ends = f"its history ends in {said}" if said else "its history does not say how"
            yield Finding("history", str(record.ref), f"it is {record.state}, but {ends}")


def _routes(connection: Connection) -> Iterator[Finding]:
    present = list(connection.execute(select(route_tables.c.digest, route_tables.c.document)))
    for digest, document in present:
        if digest_bytes(str(document).encode("utf-8", "surrogatepass")) != digest:
            yield Finding("routes", digest, "its document has another digest")
    if (digest := routes.digest_in_force(connection)) and digest not in {found for found, _ in present}:
        yield Finding("routes", digest, "it is in force, and not there: run `quire route build`")


def _triggers(connection: Connection) -> Iterator[Finding]:
    wanted: tuple[str, ...] = AUDIT_TRIGGERS
    query = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
    if connection.dialect.name != "sqlite":  # where a trigger may also be there and turned off
        wanted = (*AUDIT_TRIGGERS, "audit_log_no_truncate")
        query = "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass('audit_log') AND tgenabled <> 'D'"
    present = set(connection.execute(text(query)).scalars())
    for name in wanted:
        if name not in present:
            yield Finding("schema", name, "the trigger that keeps the audit log append-only is not there")
