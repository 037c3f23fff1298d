"""A registry's rows as text, and back into another database: SQLite to PostgreSQL as well as the other way.

Rows are dumped at the newest revision, in the order of their keys, from one snapshot. They are loaded into the schema
of the revision they were dumped at, which migrations then bring to the newest: an old dump stays readable for as long
as the migrations are there. What servers say of themselves is no part of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, LargeBinary, MetaData, Table, func, inspect, select, text

from quire.artifact.identity import canonical
from quire.errors import AuditBroken, BackupInvalid, TargetNotEmpty
from quire.registry.audit import Head, chain, checking
from quire.registry.revisions import head as newest
from quire.registry.revisions import known, upgrade
from quire.registry.schema import REVISION_TABLE, audit_log, metadata

BATCH = 200  # rows at a time
BYTES = "base64:"
_NOT_KEPT = {"gateways"}
_BROKEN = "take another copy of the export"


def tables() -> tuple[str, ...]:
    """The tables of a dump, parents before children."""
    return tuple(table.name for table in metadata.sorted_tables if table.name not in _NOT_KEPT)


def dump(connection: Connection, name: str, head: Head) -> Iterator[bytes]:
    """The rows of one table, one line each. `head`: the last record of the audit log that is meant."""
    table = metadata.tables[name]
    columns = [column for column in table.columns if column.computed is None]
    keys = list(table.primary_key.columns)
    query = select(*columns).order_by(*keys).execution_options(yield_per=BATCH)
    if table is audit_log:
        query = query.where(audit_log.c.sequence <= head.records)
    for row in connection.execute(query).mappings():
        values = {
            column.name: BYTES + base64.b64encode(row[column.name]).decode()
            if isinstance(column.type, LargeBinary)
            else row[column.name]
            for column in columns
        }
        yield canonical(values) + b"\n"


def load(
    connection: Connection, revision: str, rows: Callable[[str], Iterable[bytes]], names: Iterable[str], expect: Head
) -> None:
    """Fills an empty database with what `dump` gave, in the transaction of `connection`, at the newest revision then.

    Args:
        rows: the lines of one table of `names`.
        expect: the head that the audit log must have then, every record of it checked.

    Raises:
        TargetNotEmpty, BackupInvalid, AuditBroken; RecordInvalid for rows that contradict one another.
    """
    _prepare(connection, revision)
    schema = MetaData()
    schema.reflect(connection)
    for table in schema.sorted_tables:
        if table.name in set(names):
            _insert(connection, table, rows(table.name))
    if missing := set(names) - set(schema.tables):
        raise BackupInvalid(f"revision {revision} has no table {min(missing)}", hint=_BROKEN)
    upgrade(connection, newest())
    verdict = checking.verify(connection, {"exported head": expect})
    if verdict.findings or (revision == newest() and chain.head(connection) != expect):
        found = verdict.findings[0].problem if verdict.findings else f"it ends at {chain.head(connection)}"
        raise AuditBroken(f"the audit log of the export is not whole: {found}", hint=_BROKEN)


def is_empty(connection: Connection) -> bool:
    """Whether nothing was ever entered."""
    present = set(inspect(connection).get_table_names())
    return all(
        not connection.execute(select(func.count()).select_from(metadata.tables[name])).scalar()
        for name in tables()
        if name in present
    )


def drop(connection: Connection) -> None:
    """Removes all that the registry has in the database, its history included. Mutates."""
    metadata.drop_all(connection)
    connection.execute(text(f"DROP TABLE IF EXISTS {REVISION_TABLE}"))
    if connection.dialect.name != "sqlite":
        for function in ("audit_log_refuse", "audit_log_append"):
            connection.execute(text(f"DROP FUNCTION IF EXISTS {function}()"))


def _prepare(connection: Connection, revision: str) -> None:
    if revision not in known():
        raise BackupInvalid(
            f"the export is at revision {revision!r:.40} of the registry, this Quire knows up to {newest()}",
            hint="import it with the Quire that wrote it, or a newer one",
        )
    present = set(inspect(connection).get_table_names())
    if not is_empty(connection):
        raise TargetNotEmpty(
            "expected an empty registry to import into, found one with a history",
            hint="import into another database or project; --replace gives up all that is in this one",
        )
    if present & set(metadata.tables):  # made when it was opened; what is older starts from there
        drop(connection)
    upgrade(connection, revision)


def _insert(connection: Connection, table: Table, lines: Iterable[bytes]) -> None:
    batch: list[dict[str, Any]] = []
    columns = {column.name: column for column in table.columns if column.computed is None}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or set(row) != set(columns):
                raise ValueError(f"expected the columns {', '.join(columns)}")
            for name, column in columns.items():
                if isinstance(column.type, LargeBinary):
                    row[name] = base64.b64decode(row[name].removeprefix(BYTES), validate=True)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise BackupInvalid(f"row {number} of {table.name} does not read as one: {error}", hint=_BROKEN) from error
        batch.append(row)
        if len(batch) == BATCH:
            connection.execute(table.insert(), batch)
            batch = []
    if batch:
        connection.execute(table.insert(), batch)
    _go_on_counting(connection, table)


def _go_on_counting(connection: Connection, table: Table) -> None:
    """PostgreSQL numbers rows by a sequence that knows nothing of numbers that were given."""
    if connection.dialect.name == "sqlite":
        return
    for column in table.primary_key.columns:
        of = {"table": table.name, "column": column.name}
        sequence = connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), of).scalar()
        if sequence and (last := connection.execute(select(func.max(column))).scalar()):
            connection.execute(text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last})
