"""Whatever happens to the file, the answer is a named error or a finding."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from quire.errors import RegistryBusy, RegistryError, RegistryUnreadable, RegistryUnwritable
from quire.registry import Registry

from .making import BY, digest_of, record

NOBODY = 65534


@pytest.fixture
def filled(path: Path, empty_registry: Path) -> Path:
    """A registry of a base and a live child, closed."""
    shutil.copy(empty_registry, path)
    with Registry.open(path) as registry:
        base = registry.register(record("base"), **BY)
        child = registry.register(record("child", parent=base), **BY)
        registry.publish_many([("base", base.version), ("child", child.version)], **BY)
    return path


def edit(path: Path, *statements: str) -> None:
    """As somebody would who may write to the file and has taken the triggers away before and put them back after."""
    with closing(sqlite3.connect(path)) as connection, connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'audit_log'").fetchone():
            for _, statement in triggers:
                connection.execute(statement)


@pytest.mark.parametrize("content", [b"not a database at all, but text" * 40, b"\x00" * 4096, b"SQLite format 3\x00"])
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RegistryUnreadable, match=str(path)) as raised:
        Registry.open(path)
    assert raised.value.hint
    assert path.read_bytes() == content


def test_a_directory_in_the_place_of_the_file(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RegistryUnreadable, match="cannot be opened"):
        Registry.open(path)


def test_a_file_in_the_place_of_the_folder(path: Path) -> None:
    path.write_text("")
    with pytest.raises(RegistryUnwritable, match="folder"):
        Registry.open(path / "registry.db")


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_is_named_wherever_it_strikes(filled: Path, seed: int) -> None:
    draw = random.Random(seed)
    content = bytearray(filled.read_bytes())
    for _ in range(120):  # many of them strike pages that nothing has been written to
        content[draw.randrange(len(content))] = draw.randrange(256)
    filled.write_bytes(content[: draw.randrange(len(content) // 2, len(content))] if seed % 2 else content)
    try:
        with Registry.open(filled) as registry:
            assert registry.integrity(digest_of)
            for read in (registry.modules, registry.versions, registry.history, registry.generation):
                read()
            registry.register(record("new"), **BY)
    except RegistryError:
        return


@pytest.mark.parametrize(
    ("statement", "check", "says"),
    [
        ("UPDATE module_versions SET inputs = '{' WHERE module_id = 'child'", "row", "does not decode"),
        (
            "UPDATE module_versions SET created_at = 'noon' WHERE module_id = 'child'",
            "row",
            "does not decode",
        ),
        ("UPDATE module_versions SET sources = '[[1]]' WHERE module_id = 'child'", "row", "does not decode"),
        ("UPDATE audit_log SET at = 'noon' WHERE sequence = 1", "audit", "its content has the hash"),
        ("UPDATE audit_log SET details = '[]' WHERE sequence = 1", "audit", "does not decode"),
        ("UPDATE module_versions SET manifest = '[' WHERE module_id = 'child'", "manifest", "not JSON"),
        ("UPDATE module_versions SET manifest = '[]' WHERE module_id = 'child'", "manifest", "object"),
        ("UPDATE module_versions SET manifest = '{\"key\":1}' WHERE module_id = 'child'", "manifest", "key"),
        ("UPDATE module_versions SET digest = 'b3:0' WHERE module_id = 'child'", "manifest", "digest"),
        ("UPDATE module_versions SET digest = 'b3:0' WHERE module_id = 'base'", "parent", "with digest"),
        ("DELETE FROM module_versions WHERE module_id = 'base'", "parent", "not registered"),
        ("DELETE FROM module_versions WHERE module_id = 'base'", "database", "refers to a row"),
        ("UPDATE module_versions SET state = 'candidate' WHERE module_id = 'base'", "ancestor", "candidate"),
        ("UPDATE module_versions SET state = 'retired' WHERE module_id = 'child'", "history", "ends in live"),
        ("DELETE FROM audit_log WHERE module = 'child'", "history", "does not say how"),
        ("DELETE FROM audit_log WHERE module = 'child'", "audit", "expected record"),
        ("DELETE FROM audit_log WHERE sequence = 4", "audit", "expected 4 records"),
        ("DROP INDEX uq_module_versions_one_live", "schema", "not there"),
    ],
)
def test_fsck_finds_what_somebody_changed_by_hand(filled: Path, statement: str, check: str, says: str) -> None:
    edit(filled, statement)
    with Registry.open(filled) as registry:
        found = registry.integrity(digest_of)
    assert any(finding.check == check and says in finding.problem for finding in found), found


def test_fsck_finds_two_live_versions(filled: Path) -> None:
    with Registry.open(filled) as registry:
        registry.register(record("base", 2), **BY)
    edit(filled, "DROP INDEX uq_module_versions_one_live", "UPDATE module_versions SET state = 'live'")
    with Registry.open(filled) as registry:
        assert "live" in {finding.check for finding in registry.integrity()}


def test_the_database_itself_refuses_two_live_versions(filled: Path) -> None:
    with Registry.open(filled) as registry:
        registry.register(record("base", 2), **BY)
    with pytest.raises(sqlite3.IntegrityError, match="module_id"):
        edit(filled, "UPDATE module_versions SET state = 'live'")


def test_a_table_that_is_gone_is_named(filled: Path) -> None:
    edit(filled, "DROP TABLE audit_log")
    with Registry.open(filled) as registry:
        assert {"schema", "database"} <= {finding.check for finding in registry.integrity()}
        with pytest.raises(RegistryUnreadable, match="audit_log"):
            registry.generation()
        with pytest.raises(RegistryUnreadable):
            registry.register(record("new"), **BY)
        assert len(registry.modules()) == 2


def test_a_lock_held_too_long_is_busy_and_passes(filled: Path) -> None:
    with (
        Registry.open(filled, busy_seconds=0.1) as registry,
        closing(sqlite3.connect(filled, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryBusy, match=r"0\.1 s") as raised:
            registry.register(record("new"), **BY)
        assert "try again" in raised.value.hint
        assert registry.live("child").module_id == "child"  # readers do not wait for a writer
        other.execute("ROLLBACK")
        registry.register(record("new"), **BY)


def test_opening_a_locked_file_is_busy(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RegistryBusy):
            Registry.open(path, busy_seconds=0.1)
    Registry.open(path).close()


def open_and_retire(path: Path, as_user: int | None, said: Connection) -> None:
    if as_user is not None:
        os.setuid(as_user)
    try:
        with Registry.open(path) as registry:
            registry.retire("child", registry.live("child").version, **BY)
        said.send("done")
    except RegistryError as error:
        said.send(error.code)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that any user may enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="quire-registry-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "expected"),
    [
        (0o444, 0o777, "registry_unwritable"),
        (0o444, 0o555, "registry_unwritable"),
        (0o666, 0o555, "registry_unwritable"),
        (0o000, 0o777, "registry_unreadable"),
    ],
)
def test_without_permission_the_error_says_so(
    filled: Path, shared_folder: Path, file_mode: int, folder_mode: int, expected: str
) -> None:
    target = shared_folder / "registry.db"
    shutil.copy(filled, target)
    before = target.read_bytes()
    target.chmod(file_mode)
    shared_folder.chmod(folder_mode)
    # Permissions do not bind root, so root steps down for it, in a child that has everything imported.
    context = multiprocessing.get_context("fork")
    answer, said = context.Pipe(duplex=False)
    user = NOBODY if os.geteuid() == 0 else None
    process = context.Process(target=open_and_retire, args=(target, user, said))
    process.start()
    process.join()
    assert answer.recv() == expected
    target.chmod(0o644)
    assert target.read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-o", "size=512k", "tmpfs", str(disk)]
    mounted = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill_with_pages(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\x00" * 4096)


def publish_until_it_fails(registry: Registry) -> None:
    for number in range(2, 200):
        made = registry.register(record("billing", number), **BY)
        registry.publish("billing", made.version, **BY)


def test_a_full_disk_changes_nothing_and_says_so(small_disk: Path) -> None:
    path = small_disk / "registry.db"
    with Registry.open(path) as registry:
        first = registry.register(record("billing"), **BY)
        registry.publish("billing", first.version, **BY)
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="space"):
            fill_with_pages(ballast)
        with pytest.raises(RegistryUnwritable) as raised:
            publish_until_it_fails(registry)
        assert "free space" in raised.value.hint
        assert registry.live("billing").digest in registry.referenced_digests()
        assert registry.integrity() == []
        ballast.unlink()
        registry.register(record("billing", 999), **BY)
        assert registry.integrity() == []


def test_threads_share_one_registry(filled: Path) -> None:
    problems: list[BaseException] = []
    with Registry.open(filled) as registry:

        def work(module_id: str) -> None:
            try:
                for number in range(8):
                    made = registry.register(record(module_id, number), **BY)
                    registry.publish(module_id, made.version, **BY)
                    assert registry.live(module_id).version == made.version
            except BaseException as error:  # whatever it is, the main thread reports it
                problems.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c", "d")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert len(registry.versions()) == 2 + 4 * 8
        assert registry.integrity() == []


def use_inherited(registry: Registry) -> None:
    registry.register(record("forked"), **BY)
    registry.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_registry_survives_a_fork(filled: Path) -> None:
    with Registry.open(filled) as registry:
        process = multiprocessing.get_context("fork").Process(target=use_inherited, args=(registry,))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert registry.versions("forked")
        registry.register(record("after"), **BY)
        assert registry.integrity() == []
