"""A registry as a whole: out of one database, into another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from quire.registry import catalogue, dumping, revisions
from quire.registry.audit import AuditEvent, Head, chain
from quire.registry.audit.anchor import anchor_of
from quire.registry.database import Database
from quire.registry.records import VersionRecord
from quire.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Dumped:
    """What was dumped beside the rows: the schema's revision, the audit log's head, the versions."""

    revision: str
    head: Head
    records: tuple[VersionRecord, ...]


def dump_registry(registry: Registry, write: Callable[[str, Iterable[bytes]], None]) -> Dumped:
    """Everything in `registry`, as of one moment, while others go on with it.

    Records at the end of its audit log that it was copied are left out.

    `write`: called for each table with its lines, parents before children. Of API keys there are digests only.

    Raises:
        RegistryBusy, RegistryUnreadable.
    """
    with registry._database.reading() as connection:
        head = chain.head_to_export(connection)
        for name in dumping.tables():
            write(name, dumping.dump(connection, name, head))
        return Dumped(revisions.head(), head, tuple(catalogue.all_versions(connection)))


def load_registry(
    place: str | Path,
    dumped: Dumped,
    names: Iterable[str],
    rows: Callable[[str], Iterable[bytes]],
    *,
    event: AuditEvent,
    replace: bool = False,
    heads: Path | None = None,
) -> None:
    """Make a registry at `place` of what was dumped, with its history: all of it or nothing. Mutates.

    Its audit log is that of the dump, every record of it checked, and one record more: `event`.

    Args:
        names, rows: the tables that were dumped, and the lines of one.
        replace: give up the registry that is there, in the same transaction.
        heads: see `Registry.open`.

    Raises:
        TargetNotEmpty, BackupInvalid, AuditBroken, RecordInvalid; RegistryBusy, RegistryUnwritable, RegistryUnreadable.
    """
    database = Database(place, busy_seconds=10.0)
    try:
        database.prepare()
        with database.writing() as connection:
            if replace:
                dumping.drop(connection)
            dumping.load(connection, dumped.revision, rows, frozenset(names), dumped.head)
            chain.append(connection, event)
            head = chain.head(connection)
        if anchor := anchor_of(database, heads):
            anchor.move(head, force=True)
    finally:
        database.close()


def is_empty(place: str | Path) -> bool:
    """Whether nothing was ever entered into the registry at `place`; it is none yet where there is no database."""
    database = Database(place, busy_seconds=10.0)
    try:
        if database.is_sqlite and not Path(database.place).exists():
            return True
        with database.reading() as connection:
            return dumping.is_empty(connection)
    finally:
        database.close()
