"""Registries to test on, in SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from quire.registry import Registry
from quire.registry.database import Database

from .postgres import Postgres


class SqlitePlaces:
    """Each place a file of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._made = 0
        self._template = self.bare(home)
        Registry.open(self._template).close()

    def bare(self, directory: Path) -> str:
        """A place where nothing is yet."""
        self._made += 1
        return str(directory / f"registry{self._made}.db")

    def empty(self, directory: Path) -> str:
        """A registry without modules. Migrating is tested on its own and would cost every other test its time."""
        return self.copy(self._template, directory)

    def copy(self, place: str, directory: Path) -> str:
        """A copy of a closed registry, with its kept head."""
        target = self.bare(directory)
        for suffix in ("", ".head"):
            if Path(f"{place}{suffix}").exists():
                shutil.copy(f"{place}{suffix}", f"{target}{suffix}")
        return target


class PostgresPlaces:
    """Each place a database of its own, on one server."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._template = server.new_database()
        Registry.open(self._template).close()

    def bare(self, _directory: Path) -> str:
        return self.server.new_database()

    def empty(self, directory: Path) -> str:
        return self.copy(self._template, directory)

    def copy(self, place: str, _directory: Path) -> str:
        return self.server.new_database(template=place.rpartition("/")[2])


Places = SqlitePlaces | PostgresPlaces


@contextmanager
def direct(place: str) -> Iterator[Connection]:
    """The database itself, in one transaction, for what no registry would do."""
    database = Database(place, busy_seconds=5)
    try:
        with database.writing() as connection:
            yield connection
    finally:
        database.close()


@contextmanager
def locked(place: str) -> Iterator[Callable[[], None]]:
    """No other writer gets in meanwhile, or until what is given is called."""
    database = Database(place, busy_seconds=5)
    transaction = database.writing()
    transaction.__enter__()
    held = True

    def release() -> None:
        nonlocal held
        if held:
            held = False
            transaction.__exit__(None, None, None)
            database.close()

    try:
        yield release
    finally:
        release()


def tampering(place: str, change: Callable[[Connection], object]) -> None:
    """`change` tables as somebody would who has taken the triggers away; they are back afterwards."""
    with direct(place) as connection:
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql("ALTER TABLE audit_log DISABLE TRIGGER USER")
            change(connection)
            connection.exec_driver_sql("ALTER TABLE audit_log ENABLE TRIGGER USER")
            return
        triggers = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        change(connection)
        for _, statement in triggers:
            connection.exec_driver_sql(statement)
