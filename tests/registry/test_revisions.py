"""Opening brings any older database to the newest schema, and refuses what it does not know."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import sqlite3
import traceback
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from services.registries import Places, direct
from sqlalchemy import column, table

from quire.errors import InvalidSetting, RegistryUnreachable, RegistryUnreadable
from quire.registry import Registry, revisions
from quire.registry.database import Database
from quire.registry.migrations import versions as history
from quire.registry.rows import to_row
from quire.registry.schema import REVISION_TABLE, metadata, versions

from .making import BY, record

HISTORY = table(
    "module_history",
    *map(
        column,
        ("sequence", "at", "actor", "action", "module_id", "version", "digest", "from_state", "to_state", "reason"),
    ),
)


@pytest.fixture
def bare_place(places: Places, tmp_path: Path) -> str:
    """Where no registry is yet."""
    return places.bare(tmp_path)


def database_at(place: str, revision: str) -> None:
    """A registry as the Quire of that revision left it, with one candidate in it."""
    database = Database(place, busy_seconds=5)
    database.prepare()
    with database.writing() as connection:
        revisions.upgrade(connection, revision)
        connection.execute(versions.insert().values(to_row(record("billing"))))
    database.close()


def test_the_migrations_lead_to_the_schema_in_the_code(place: str) -> None:
    database = Database(place, busy_seconds=5)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": REVISION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == revisions.head()
    database.close()


@pytest.mark.parametrize("revision", revisions.known())
def test_a_database_of_any_revision_opens_with_what_it_held(bare_place: str, revision: str) -> None:
    database_at(bare_place, revision)
    with Registry.open(bare_place) as registry:
        kept = registry.get("billing", record("billing").version)
        assert kept == record("billing")
        registry.publish("billing", kept.version, **BY)
        assert registry.live("billing").version == kept.version
        assert registry.integrity() == []


def test_a_history_becomes_a_chain_that_says_the_same(bare_place: str) -> None:
    database_at(bare_place, "0002")
    entries = [
        (1, "2026-11-22T10:00:00.000000+00:00", "ann", "register", "billing", "b3:1", None, "candidate", "new"),
        (4, "2026-11-22T11:00:00.000000+00:00", "bob", "publish", "billing", "b3:1", "candidate", "live", "reviewed"),
        (5, "2026-11-22T12:00:00.000000+00:00", "bob", "forget", "gone", "b3:2", "retired", None, "old"),
    ]
    with direct(bare_place) as connection:
        for number, at, who, action, module, digest, before, after, why in entries:
            values = (number, at, who, action, module, "1f3c", digest, before, after, why)
            connection.execute(HISTORY.insert().values(dict(zip(HISTORY.c.keys(), values, strict=True))))
    with Registry.open(bare_place) as registry:
        for e, entry in zip(reversed(registry.history()), entries, strict=True):
            at = e.at.isoformat(timespec="microseconds")
            said = (at, e.actor, e.action, e.module_id, e.digest, e.from_state, e.to_state, e.reason)
            assert said == entry[1:]
        assert [r.tenant for r in registry.audit.each()] == ["", "", ""]
        assert registry.generation() == 3
        assert registry.audit.verify().findings == ()
        if registry.audit.verify().head.records and Path(f"{bare_place}.head").exists():
            assert Path(f"{bare_place}.head").read_text().startswith("3:b3:")


def test_every_revision_says_why() -> None:
    modules = [
        importlib.import_module(f"{history.__name__}.{found.name}") for found in pkgutil.iter_modules(history.__path__)
    ]
    assert [module.revision for module in modules] == list(revisions.known())
    assert all("\nWhy: " in str(module.__doc__) for module in modules)


def test_a_database_of_a_newer_quire_is_left_alone(place: str) -> None:
    with direct(place) as connection:
        connection.exec_driver_sql(f"UPDATE {REVISION_TABLE} SET version_num = '9999'")
    with pytest.raises(RegistryUnreadable, match=f"9999.*{revisions.head()}") as raised:
        Registry.open(place)
    assert "upgrade Quire" in raised.value.hint
    with direct(place) as connection:
        assert connection.exec_driver_sql(f"SELECT version_num FROM {REVISION_TABLE}").scalar() == "9999"


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(RegistryUnreadable, match="bookmarks"):
        Registry.open(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]
    connection.close()


def open_and_close(place: str) -> None:
    Registry.open(place).close()


def test_processes_that_open_a_new_registry_together_all_succeed(bare_place: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_close, args=(bare_place,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with Registry.open(bare_place) as registry:
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
        ("mysql://host/quire", "found mysql://"),
        ("postgresql://ann:s3cret@host:none/quire", "found postgresql://"),
        ("sqlite://", "plain file"),
        ("sqlite:///:memory:", "plain file"),
        ("sqlite:///x.db?mode=ro", "plain file"),
        ("://", "a path, or a URL"),
    ],
)
def test_a_url_that_names_no_registry_is_a_setting_to_mend(url: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as raised:
        Registry.open(url)
    assert raised.value.hint


@pytest.mark.parametrize("url", ["ann:s3cret@127.0.0.1:1/quire", "127.0.0.1:1/quire?user=ann&password=s3cret"])
def test_a_password_is_not_repeated_in_errors(url: str) -> None:
    with pytest.raises(RegistryUnreachable, match=r"postgresql://.*127.0.0.1:1/quire cannot be reached") as raised:
        Registry.open(f"postgresql://{url}")
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))
