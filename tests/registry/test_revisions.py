"""Opening brings any older database to the newest schema, and refuses what it does not know."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from quire.errors import InvalidSetting, RegistryUnreadable
from quire.registry import Registry, revisions
from quire.registry.database import Database
from quire.registry.migrations import versions as history
from quire.registry.rows import to_row
from quire.registry.schema import REVISION_TABLE, metadata, versions

from .making import BY, record


def database_at(path: Path, revision: str) -> None:
    """A registry as the Quire of that revision left it, with one candidate in it."""
    database = Database(path, busy_seconds=5)
    database.prepare()
    with database.writing() as connection:
        revisions.upgrade(connection, revision)
        connection.execute(versions.insert().values(to_row(record("billing"))))
    database.close()


def test_the_migrations_lead_to_the_schema_in_the_code(path: Path) -> None:
    Registry.open(path).close()
    database = Database(path, busy_seconds=5)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": REVISION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == revisions.head()
    database.close()


@pytest.mark.parametrize("revision", revisions.known())
def test_a_database_of_any_revision_opens_with_what_it_held(path: Path, revision: str) -> None:
    database_at(path, revision)
    with Registry.open(path) as registry:
        kept = registry.get("billing", record("billing").version)
        assert kept == record("billing")
        registry.publish("billing", kept.version, **BY)
        assert registry.live("billing").version == kept.version
        assert registry.integrity() == []


def test_every_revision_says_why() -> None:
    modules = [
        importlib.import_module(f"{history.__name__}.{found.name}") for found in pkgutil.iter_modules(history.__path__)
    ]
    assert [module.revision for module in modules] == list(revisions.known())
    assert all("\nWhy: " in str(module.__doc__) for module in modules)


def test_a_database_of_a_newer_quire_is_left_alone(path: Path) -> None:
    Registry.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {REVISION_TABLE} SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RegistryUnreadable, match=f"9999.*{revisions.head()}") as raised:
        Registry.open(path)
    assert "upgrade Quire" in raised.value.hint
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(RegistryUnreadable, match="bookmarks"):
        Registry.open(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]
    connection.close()


def open_and_close(path: str) -> None:
    Registry.open(path).close()


def test_processes_that_open_a_new_registry_together_all_succeed(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_close, args=(str(path),)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with Registry.open(path) as registry:
        assert registry.integrity() == []


def test_a_path_and_its_url_are_the_same_registry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry.open(path) as registry:
        registry.register(record("billing"), **BY)
    monkeypatch.chdir(path.parent)
    for url in (str(path), f"sqlite:///{path}", "sqlite:///registry.db", "registry.db", Path("registry.db")):
        with Registry.open(url) as registry:
            assert len(registry.modules()) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://host/quire", "found mysql"),
        ("sqlite://", "plain file"),
        ("sqlite:///:memory:", "plain file"),
        ("sqlite:///x.db?mode=ro", "plain file"),
        ("://", "does not parse"),
    ],
)
def test_a_url_that_names_no_registry_is_a_setting_to_mend(url: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as raised:
        Registry.open(url)
    assert raised.value.hint


def test_a_password_is_not_repeated_in_errors() -> None:
    with pytest.raises((InvalidSetting, RegistryUnreadable)) as raised:
        Registry.open("postgresql://ann:s3cret@127.0.0.1:1/quire")
    assert "s3cret" not in raised.value.message
