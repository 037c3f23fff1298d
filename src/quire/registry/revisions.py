"""Brings a database to the revision this code was written for.

Revisions live in `migrations/versions`, are append-only and linear. The database names the one it is at, in
a table of its own. A name this code does not know was written by a newer Quire, and nothing is touched.
"""

from __future__ import annotations

import threading
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from quire.errors import RegistryUnreadable
from quire.registry.database import Database
from quire.registry.schema import REVISION_TABLE, metadata

# alembic keeps the migration in progress in module globals: one at a time in a process.
_one_migration = threading.Lock()


def bring_to_head(database: Database) -> bool:
    """Applies the missing revisions, all or none, while other processes wait, and says whether any was. Mutates.

    Raises RegistryUnreadable for a database of a newer Quire, or of another program.
    """
    with database.reading() as connection:
        if _current(connection, database.place) == head():
            return False
    with _one_migration, database.writing() as connection:
        # Another process may have done it while this one waited for the lock.
        missing = _current(connection, database.place) != head()
        if missing:
            upgrade(connection, head())
        return missing


def require_head(database: Database) -> None:
    """Raises RegistryUnreadable for a database that is not at the newest revision."""
    with database.reading() as connection:
        found = _current(connection, database.place)
    if found != head():
        raise RegistryUnreadable(
            f"the registry {database.place} is at revision {found or 'none'}, expected {head()}",
            hint="it was replaced under a running server: start it again",
        )


def upgrade(connection: Connection, revision: str) -> None:
    """Runs the migrations up to `revision` inside the transaction of `connection`."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@cache
def known() -> tuple[str, ...]:
    """All revisions, oldest first."""
    script = ScriptDirectory.from_config(_config())
    return tuple(reversed([revision.revision for revision in script.walk_revisions()]))


def head() -> str:
    """The newest revision."""
    return known()[-1]


def _current(connection: Connection, place: str) -> str | None:
    """The database's revision, None when it is still empty."""
    context = MigrationContext.configure(connection, opts={"version_table": REVISION_TABLE})
    revision = context.get_current_revision()
    if revision is not None and revision not in known():
        raise RegistryUnreadable(
            f"the registry {place} is at revision {revision}, this Quire knows revisions up to {head()}",
            hint="upgrade Quire; an older one would misread it",
        )
    if revision is None:
        _refuse_foreign(connection, place)
    return revision


def _refuse_foreign(connection: Connection, place: str) -> None:
    present = set(inspect(connection).get_table_names())
    # A PostgreSQL database may be shared; a SQLite file is ours alone.
    strangers = present if connection.dialect.name == "sqlite" else present & set(metadata.tables)
    if strangers:
        raise RegistryUnreadable(
            f"{place} holds tables ({', '.join(sorted(strangers)[:3])}) but no revision of a Quire registry",
            hint="it belongs to another program; give the registry a path of its own",
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "quire.registry:migrations")
    return config
