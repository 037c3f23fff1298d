"""Whether the chain is whole: no record edited, removed, inserted or swapped, and none cut off at the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, select

from quire.errors import RegistryUnreadable
from quire.registry.audit import chain
from quire.registry.audit.events import Head
from quire.registry.records import Finding
from quire.registry.schema import audit_log

MOST_FINDINGS = 100  # after that many there is no doubt left


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was read, and what is wrong with it: nothing, if `findings` is empty.

    `kept`: the head that was kept outside the database, which the log was held against; None: none was.
    """

    head: Head
    findings: tuple[Finding, ...]
    kept: Head | None = None


def verify(connection: Connection, promised: dict[str, Head]) -> Verdict:
    """Reads the whole log. `promised`: heads that it had at one time, by who says so."""
    findings: list[Finding] = []
    head = chain.EMPTY
    wanted = {**{promise.records: "" for promise in promised.values()}, head.records: head.hash}
    with _whatever_is_there(connection):
        for row in chain.rows(connection, select(audit_log)):
            if len(findings) < MOST_FINDINGS:
                findings += _record(row, head)
            head = Head(row["sequence"], str(row["hash"]))
            if head.records in wanted:
                wanted[head.records] = head.hash
    for name, promise in promised.items():
        findings += _promise(name, promise, wanted[promise.records], head)
    return Verdict(head, tuple(findings[:MOST_FINDINGS]))


@contextmanager
def _whatever_is_there(connection: Connection) -> Iterator[None]:
    """Bytes that are no text read as U+FFFD: SQLite keeps any, and one such record must not hide the others."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):  # PostgreSQL keeps text only
        yield
        return
    driver.text_factory = lambda data: data.decode(errors="replace")
    try:
        yield
    finally:
        driver.text_factory = str


def _record(row: RowMapping, before: Head) -> Iterator[Finding]:
    """One finding at most for each thing that somebody did: later records are held to what this one says it is."""
    subject = f"record {row['sequence']}"
    if row["sequence"] != before.records + 1:
        yield Finding("audit", subject, f"expected record {before.records + 1} after {before.records}, found this one")
    elif row["previous"] != before.hash:
        yield Finding("audit", subject, f"it follows {row['previous']}, the record before is {before.hash}")
    try:
        hashed = chain.hash_of(chain.to_record(row).as_json())
    except RegistryUnreadable as error:
        yield Finding("audit", subject, error.message)
        return
    if hashed != row["hash"]:
        yield Finding("audit", subject, f"it says {row['hash']}, its content has the hash {hashed}")


def _promise(name: str, promise: Head, found: str, head: Head) -> Iterator[Finding]:
    if not found:
        yield Finding("audit", name, f"expected {promise.records} records, the log ends with record {head.records}")
    elif found != promise.hash:
        yield Finding("audit", name, f"record {promise.records} was {promise.hash}, found {found}")
