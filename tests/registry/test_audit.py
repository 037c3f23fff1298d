"""The audit log: what is recorded cannot be changed without it showing, by whomever, in how many processes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from blake3 import blake3
from services.registries import Places, direct, tampering
from sqlalchemy import Connection, column, select, table

from quire.errors import InvalidSetting, RecordInvalid, RegistryError, RegistryUnreadable, RegistryUnwritable
from quire.registry import AuditEvent, AuditFilter, AuditLog, Head, Registry
from quire.registry.audit.anchor import SharedAnchor
from quire.registry.audit.chain import EMPTY, append, hash_of
from quire.registry.database import Database
from quire.registry.schema import audit_log

from .making import BY, record

SPAWN = multiprocessing.get_context("spawn")
COLUMNS = tuple(audit_log.c.keys())
FORGED = table("audit_log", *map(column, COLUMNS))  # without types, which would not let everything through


def denial(number: int = 0, **changed: Any) -> AuditEvent:
    event = {"kind": "access.denied", "who": f"ann{number}", "what": f"billing@{number}", "why": "not her tenant"}
    return AuditEvent(**{**event, "tenant": "acme", "module": "billing", "details": {"n": number}, **changed})


def write_ten(place: str) -> str:
    """A closed registry with ten records of several kinds, and in SQLite its kept head beside it."""
    with Registry.open(place) as registry:
        one, two = (registry.register(record("billing", number), **BY) for number in (1, 2))
        registry.publish("billing", one.version, **BY)
        registry.publish("billing", two.version, **BY)
        registry.rollback("billing", **BY)
        registry.audit.record([denial(1), denial(2), denial(3)])
        assert registry.audit.head() == registry.audit.verify().head
        assert registry.audit.verify().head.records == 10
        assert registry.audit.verify().findings == ()
    return place


@pytest.fixture(scope="module")
def ten_records(places: Places, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_ten(places.empty(tmp_path_factory.mktemp("log")))


@pytest.fixture
def log(ten_records: str, places: Places, tmp_path: Path) -> str:
    """A copy of `ten_records` to change."""
    return places.copy(ten_records, tmp_path)


@pytest.fixture
def file_log(path: Path) -> str:
    """Ten records in SQLite: a server keeps no head beside it."""
    return write_ten(str(path))


def rows(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(audit_log).order_by(audit_log.c.sequence)).mappings()]


def write_rows(connection: Connection, wanted: list[dict[str, Any]]) -> None:
    connection.execute(audit_log.delete())
    connection.execute(FORGED.insert(), wanted)


def rehashed(wanted: list[dict[str, Any]], start: int) -> list[dict[str, Any]]:
    """What an attacker writes who knows how hashes are made: a chain that fits together from `start` on."""
    previous = wanted[start - 1]["hash"] if start else EMPTY.hash
    for number, row in enumerate(wanted[start:], start=start + 1):
        row |= {"sequence": number, "previous": previous}
        row["hash"] = previous = hash_of({**row, "details": json.loads(row["details"])})
    return wanted


def edit(draw: random.Random, table: list[dict[str, Any]]) -> None:
    name = draw.choice(COLUMNS[1:])
    row = draw.choice(table)
    old = row[name]
    choices: list[Any] = [f"{old}x", "", "b3:" + "0" * 64, draw.choice(table)[name], f" {old}", 7, None, b"x"]
    if name == "details":
        choices += ['{"n":99}', f"{old} ", old.replace(":", ": ")]
    if name == "generation":
        choices += [old + 1, 0]
    row[name] = draw.choice([c for c in choices if c != old and not (c is None and name != "module")])


def delete(draw: random.Random, table: list[dict[str, Any]]) -> None:
    first = draw.randrange(len(table))
    del table[first : first + draw.randint(1, 3)]


def swap(draw: random.Random, table: list[dict[str, Any]]) -> None:
    one, other = draw.sample(range(len(table)), 2)
    table[one]["sequence"], table[other]["sequence"] = table[other]["sequence"], table[one]["sequence"]


def swap_contents(draw: random.Random, table: list[dict[str, Any]]) -> None:
    """And the places in the chain stay."""
    one, other = draw.sample(table, 2)
    kept = ("sequence", "previous", "hash")
    mine, theirs = ({k: v for k, v in row.items() if k not in kept} for row in (one, other))
    one |= theirs
    other |= mine


def insert(draw: random.Random, table: list[dict[str, Any]]) -> None:
    at = draw.randint(0, len(table))
    table.insert(at, {**draw.choice(table), "why": "forged"})
    for number, row in enumerate(table, start=1):
        row["sequence"] = number
    if draw.random() < 0.5 and at < len(table) - 1:  # as well as it can be done without touching later records
        row = table[at]
        row["previous"] = table[at - 1]["hash"] if at else EMPTY.hash
        row["hash"] = hash_of({**row, "details": json.loads(row["details"])})


def renumber_after_deleting(draw: random.Random, table: list[dict[str, Any]]) -> None:
    del table[draw.randrange(len(table) - 1)]
    for number, row in enumerate(table, start=1):
        row["sequence"] = number


def rewrite(draw: random.Random, table: list[dict[str, Any]]) -> None:
    """Everything from somewhere on, hashes and all: only the kept head says that it was otherwise."""
    start = draw.randrange(len(table))
    table[start]["why"] = "nothing to see here"
    rehashed(table, start)


CHANGES = [edit, delete, swap, swap_contents, insert, renumber_after_deleting, rewrite]


def test_the_head_is_kept_by_each_machine_that_writes(log: str, tmp_path: Path) -> None:
    """Beside the file in SQLite; of a registry on a server in each machine's own directory."""
    here, there = tmp_path / "here", tmp_path / "there"
    with Registry.open(log, heads=here) as registry, Registry.open(log, heads=there) as other:
        registry.audit.record([denial(1)])
        assert registry.audit.verify().kept == registry.audit.head()
        assert other.audit.verify().findings == (), "who has written nothing has nothing to hold it against"
        other.audit.record([denial(2)])
        assert other.audit.verify().kept == other.audit.head()
        assert registry.audit.verify().findings == (), "others write, too"
    tampering(log, lambda connection: connection.exec_driver_sql("DELETE FROM audit_log WHERE sequence > 9"))
    for heads in (here, there):
        with Registry.open(log, heads=heads) as registry:
            (finding,) = registry.audit.verify().findings
            assert finding.subject == "kept head"
            assert "the log ends with record 9" in finding.problem
    with Registry.open(log, heads=here) as registry:
        for number in range(5):
            registry.audit.record([denial(number)])
        assert [finding.subject for finding in registry.audit.verify().findings] == ["kept head"]
        assert registry.audit.anchor(who="ann", why="the standby lacked them") == registry.audit.head()
        assert registry.audit.verify().findings == ()


def test_a_kept_head_of_many_stands_in_no_changes_way(file_log: str, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(file_log, busy_seconds=5)
    nowhere = SharedAnchor(Path("/proc/quire/registry.head"))  # where nobody can make a directory
    log = AuditLog(database, nowhere)
    with caplog.at_level(logging.ERROR, logger="quire"):
        (made,) = log.record([denial()])
    assert log.head().records == made.sequence
    assert "the head of the audit log is not kept" in caplog.text
    assert (log.verify().kept, log.verify().findings) == (None, ())
    with pytest.raises(RegistryUnwritable):
        log.anchor(who="ann", why="to see whether it can be")
    database.close()


def test_databases_are_told_apart_and_not_their_users() -> None:
    url = "postgresql://{}db.internal/quire{}"
    same = [Database(url.format(*parts), busy_seconds=1) for parts in (("ann:s@", ""), ("", ""), ("", "?password=t"))]
    other = Database(url.format("", "?options=-csearch_path%3Dtwo"), busy_seconds=1)
    assert len({one.fingerprint for one in same}) == 1
    assert other.fingerprint != same[0].fingerprint


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_any_record_is_found(log: str, change: Callable[..., None]) -> None:
    with direct(log) as connection:
        pristine = rows(connection)
    elsewhere = Head(10, pristine[-1]["hash"])
    draw = random.Random(change.__name__)
    made = 0
    with Registry.open(log) as registry:
        for _ in range(40):
            table = [dict(row) for row in pristine]
            change(draw, table)
            assert sorted(table, key=lambda row: row["sequence"]) != pristine
            if not forge(log, table):
                continue
            made += 1
            assert registry.audit.verify(elsewhere).findings, change.__name__
            if not log.startswith("postgresql"):
                assert registry.audit.verify().findings, "the head beside the file says it too"
    assert made > 20, "the database itself refuses the rest"


def forge(log: str, forged: list[dict[str, Any]]) -> bool:
    """Whether the database takes these records, if need be after its rules have been taken away."""

    def bend(connection: Connection) -> None:
        write_rows(connection, forged)

    def bend_harder(connection: Connection) -> None:
        without_rules(connection)
        write_rows(connection, forged)

    for change in (bend, bend_harder):
        try:
            tampering(log, change)
        except RegistryError:  # two records after the same one, nothing where something must be, numbers among texts
            continue
        return True
    return False


def without_rules(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("DROP TABLE audit_log")
        connection.exec_driver_sql(f"CREATE TABLE audit_log ({', '.join(COLUMNS)})")
        return
    drops = ["DROP CONSTRAINT IF EXISTS uq_audit_log_previous", "DROP CONSTRAINT IF EXISTS audit_log_pkey"]
    drops += [f"ALTER COLUMN {name} DROP NOT NULL" for name in COLUMNS]
    connection.exec_driver_sql(f"ALTER TABLE audit_log {', '.join(drops)}")


def test_a_log_that_was_cut_off_and_went_on_is_found(file_log: str) -> None:
    tampering(file_log, lambda connection: connection.exec_driver_sql("DELETE FROM audit_log WHERE sequence > 6"))
    with Registry.open(file_log) as registry:
        assert "expected 10 records, the log ends with record 6" in registry.audit.verify().findings[0].problem
        for number in range(8):
            registry.audit.record([denial(number)])
        assert registry.audit.head() == registry.audit.verify().head
        (finding,) = registry.audit.verify().findings
        assert finding.subject == "kept head"
        assert "record 10 was" in finding.problem


def test_who_rewrites_the_kept_head_too_is_found_by_one_that_was_kept_elsewhere(file_log: str) -> None:
    """What the chain cannot do alone: see docs/audit.md."""
    with Registry.open(file_log) as registry:
        elsewhere = registry.audit.head()
        assert registry.audit.verify(Head.parse(str(elsewhere))).findings == ()
    tampering(file_log, lambda connection: write_rows(connection, rehashed([*rows(connection)[:4]], 0)))
    Path(f"{file_log}.head").unlink()
    with Registry.open(file_log) as registry:
        assert [f.problem for f in registry.audit.verify().findings] == [
            f"expected {file_log}.head, found nothing in it"
        ]
        registry.audit.anchor(who="mallory", why="tidying")
        assert registry.audit.verify().findings == (), "a chain that is wholly new looks whole"
        (finding,) = registry.audit.verify(elsewhere).findings
        assert "expected 10 records" in finding.problem


def test_a_kept_head_that_is_gone_or_spoiled_is_found_and_its_renewal_is_on_record(file_log: str) -> None:
    kept = Path(f"{file_log}.head")
    kept.unlink()
    with Registry.open(file_log) as registry:
        assert registry.audit.verify().findings[0].subject == "kept head"
        registry.audit.record([denial()])
        newest = registry.audit.newest(limit=1)[0]
        assert (newest.kind, "not vouched for" in newest.why) == ("log.anchor", True)
        assert registry.audit.verify().findings == ()
        kept.write_bytes(b"12:rubbish" + b" " * 85 + b"\n")
        assert "does not hold the head" in registry.audit.verify().findings[0].problem
        registry.audit.record([denial()])
        assert kept.read_bytes().startswith(b"12:rubbish"), "evidence is not overwritten"
        assert registry.audit.anchor(who="ann", why="restored from the backup of Monday") == registry.audit.head()
        assert registry.audit.verify().findings == ()
        assert registry.audit.newest(limit=1)[0].why == "restored from the backup of Monday"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET why = 'x' WHERE sequence = 3",
        "DELETE FROM audit_log WHERE sequence = 10",
        "DELETE FROM audit_log",
        "INSERT INTO audit_log SELECT 12, at, kind, who, tenant, what, module, why, digest, details, generation, "
        "hash, 'b3:x' FROM audit_log WHERE sequence = 10",
        "INSERT INTO audit_log SELECT 11, at, kind, who, tenant, what, module, why, digest, details, generation, "
        "previous, 'b3:x' FROM audit_log WHERE sequence = 10",
    ],
)
def test_the_database_refuses_everything_but_appending(log: str, statement: str) -> None:
    with pytest.raises(RecordInvalid, match="append-only"), direct(log) as connection:
        connection.exec_driver_sql(statement)
    with Registry.open(log) as registry:
        assert registry.audit.verify().findings == ()
        assert registry.audit.verify().head.records == 10


REPLACING = (
    "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log WHERE sequence = 3",
    "REPLACE INTO audit_log SELECT 10, at, kind, who, tenant, what, module, 'x', digest, details, generation, "
    "previous, hash FROM audit_log WHERE sequence = 10",
)
REPLACING_ON_A_SERVER = (
    "INSERT INTO audit_log SELECT * FROM audit_log WHERE sequence = 3 ON CONFLICT (sequence) DO UPDATE SET why = 'x'",
    "TRUNCATE audit_log",
)


def test_the_database_refuses_what_replaces_records(log: str) -> None:
    for statement in REPLACING_ON_A_SERVER if log.startswith("postgresql") else REPLACING:
        with pytest.raises(RecordInvalid, match="append-only"), direct(log) as connection:
            connection.exec_driver_sql(statement)


def test_an_exported_line_proves_itself_by_published_means(log: str) -> None:
    """Canonical JSON without the hash, BLAKE3: nothing of ours is needed to check an export."""
    previous = EMPTY.hash
    with Registry.open(log) as registry:
        for number, line in enumerate(registry.audit.each(), start=1):
            line = json.loads(json.dumps(line.as_json()))
            said = line.pop("hash")
            assert said == f"b3:{blake3(rfc8785.dumps(line)).hexdigest()}"
            assert (line["sequence"], line["previous"]) == (number, previous)
            previous = said


def test_the_record_stands_or_falls_with_the_change(registry: Registry) -> None:
    made = registry.register(record("billing"), **BY)
    before = registry.audit.head()

    def fail() -> None:
        with registry.audit.writing() as connection:
            append(connection, denial())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert registry.audit.head() == before
    assert registry.audit.verify().findings == ()
    registry.publish("billing", made.version, **BY)
    assert registry.audit.newest(limit=1)[0].kind == "module.publish"


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "module.frobnicate"},
        {"who": " "},
        {"why": ""},
        {"what": ""},
        {"why": "x" * 5000},
        {"who": "\ud800"},
        {"why": "a\0b"},
        {"details": {"x": float("nan")}},
        {"details": {"x": 1 << 60}},
        {"details": {"x": object()}},
    ],
)
def test_what_cannot_be_recorded_is_refused_by_name(registry: Registry, changed: dict[str, Any]) -> None:
    with pytest.raises(RecordInvalid):
        registry.audit.record([denial(), denial(**changed)])
    assert registry.audit.head() == EMPTY


def test_records_are_found_by_what_they_say(log: str) -> None:
    def found(**wanted: Any) -> list[int]:
        return [r.sequence for r in registry.audit.newest(AuditFilter(**wanted))]

    with Registry.open(log) as registry:
        everything = found()
        assert everything == list(range(10, 0, -1))
        assert found(kinds=("access.denied",)) == [10, 9, 8]
        assert found(kinds=("module",)) == everything[3:]
        assert found(kinds=("access", "module.register")) == [10, 9, 8, 2, 1]
        assert found(who="ann2") == [9]
        assert found(module="billing") == everything
        assert found(tenant="other") == []
        moment = datetime.fromisoformat(registry.audit.newest(AuditFilter(who="ann2"))[0].at)
        assert found(since=moment) == [n for n in everything if n >= 9 or n == 8][: len(found(since=moment))]
        assert found(until=moment)[-1] == 1
        assert found(since=datetime.now(UTC) + timedelta(days=1)) == []
        with pytest.raises(InvalidSetting, match="no kind"):
            found(kinds=("acces",))
        with pytest.raises(InvalidSetting, match="limit"):
            registry.audit.newest(limit=0)


@pytest.mark.parametrize("text", ["", "12", "12:b3:abc", "007:b3:" + "0" * 64, "-1:b3:" + "0" * 64, "x" * 999])
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="head of an audit log"):
        Head.parse(text)


def append_many(place: str, name: str, count: int) -> None:
    with Registry.open(place, busy_seconds=60) as registry:
        for number in range(count):
            registry.audit.record([denial(number, who=name), denial(number, who=name)])


def test_processes_that_append_together_make_one_chain(place: str) -> None:
    writers = [SPAWN.Process(target=append_many, args=(place, f"writer{n}", 40)) for n in range(3)]
    for writer in writers:
        writer.start()
    with Registry.open(place) as registry:
        looks = 0
        while any(writer.is_alive() for writer in writers):
            assert registry.audit.verify().findings == (), "also while they write"
            looks += 1
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        assert looks > 1
        verdict = registry.audit.verify()
        assert (verdict.head.records, verdict.findings) == (3 * 80, ())
        for n in range(3):
            numbers = [r.details["n"] for r in registry.audit.each(AuditFilter(who=f"writer{n}"))]
            assert numbers == [number for number in range(40) for _ in range(2)]
    if not place.startswith("postgresql"):
        assert Path(f"{place}.head").read_text().split(":")[0] == "240"


def test_a_record_of_another_program_is_named(log: str) -> None:
    def spoil(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE audit_log SET details = '{}' WHERE sequence = 1")

    tampering(log, spoil)
    with Registry.open(log) as registry:
        assert "its content has the hash" in registry.audit.verify().findings[0].problem
        with pytest.raises(RegistryUnreadable, match="record 1 of the audit log"):
            registry.history("billing")


def test_a_record_that_is_no_text_hides_no_other(file_log: str) -> None:
    def spoil(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE audit_log SET who = CAST(x'ff' AS TEXT) WHERE sequence = 2")
        connection.exec_driver_sql("UPDATE audit_log SET why = 'forged' WHERE sequence = 5")

    tampering(file_log, spoil)
    with Registry.open(file_log) as registry:
        findings = registry.audit.verify().findings
    assert [finding.subject for finding in findings] == ["record 2", "record 5"]


def iterate(items: Iterator[Any], count: int) -> list[Any]:
    return [next(items) for _ in range(count)]


def test_an_export_is_one_snapshot(log: str) -> None:
    with Registry.open(log) as registry:
        export = registry.audit.each()
        iterate(export, 2)
        registry.audit.record([denial(99)])
        assert len(list(export)) == 8
