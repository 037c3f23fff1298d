"""Appending to the chain, inside the caller's writing transaction, and finding what is in it.

The hash of a record is BLAKE3 over its canonical JSON (RFC 8785), in which the hash of the record before it stands.
So whoever changes, removes, inserts or swaps records must compute every later hash anew, and then the head is another.
A writing transaction excludes all others, hence two processes never append after the same record; the database
refuses it too (`previous` is unique, and a trigger compares it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, or_, select

from quire.artifact.identity import canonical, digest_bytes
from quire.errors import ManifestInvalid, RecordInvalid, RegistryUnreadable
from quire.registry.audit.events import KINDS, NO_CHANGES, AuditEvent, AuditFilter, AuditRecord, Head, is_change
from quire.registry.schema import audit_log

EMPTY = Head(0, f"b3:{'0' * 64}")  # the head of a log without records
LOOKED_BACK = 100_000  # records: what others can have appended while an answer did not come
LONGEST_TEXT = 4096  # characters; a caller's mistake must not fill the log
CHANGES = audit_log.c.kind.not_in(sorted(NO_CHANGES))  # the records that make a new generation
_TYPES = tuple((c.name, c.type.python_type, bool(c.nullable)) for c in audit_log.columns)


def append(connection: Connection, event: AuditEvent) -> AuditRecord:
    """Adds `event` at the end. Raises RecordInvalid for an unknown kind, nobody, no reason, or what is no JSON."""
    check(event)
    last = connection.execute(select(audit_log).order_by(audit_log.c.sequence.desc()).limit(1)).mappings().first()
    record: dict[str, Any] = {
        "sequence": last["sequence"] + 1 if last else 1,
        "at": time_text(event.at or datetime.now(UTC)),
        "kind": event.kind,
        "who": event.who,
        "tenant": event.tenant,
        "what": event.what,
        "module": event.module,
        "why": event.why,
        "digest": event.digest,
        "details": dict(event.details),
        "generation": (last["generation"] if last else 0) + is_change(event.kind),
        "previous": last["hash"] if last else EMPTY.hash,
    }
    hashed = hash_of(record)
    details = canonical(record["details"]).decode()
    connection.execute(audit_log.insert().values(**{**record, "details": details}, hash=hashed))
    return AuditRecord(**record, hash=hashed)


def check(event: AuditEvent) -> None:
    """Raises RecordInvalid for what `append` would not take."""
    if event.kind not in KINDS:
        raise RecordInvalid(f"there is no kind of record {event.kind!r}", hint="add it to KINDS, with its meaning")
    for name in ("who", "what", "why"):
        if not getattr(event, name).strip():
            raise RecordInvalid(
                f"{event.kind} {event.what}: expected {name} to say who or why, found nothing",
                hint="a change that nobody explained cannot be judged later",
            )
    texts = [event.who, event.what, event.why, event.tenant, event.module, event.digest]
    if (longest := max(len(text or "") for text in texts)) > LONGEST_TEXT:
        raise RecordInvalid(
            f"{event.kind}: a text has {longest:,} characters, at most {LONGEST_TEXT:,} are kept",
            hint="shorten it; `details` may hold more",
        )
    if any("\0" in (text or "") for text in texts):
        raise RecordInvalid(f"{event.kind}: a text holds the character NUL", hint="PostgreSQL keeps none: leave it out")
    try:
        canonical([*texts, dict(event.details)])
    except ManifestInvalid as error:
        raise RecordInvalid(f"{event.kind} {event.what!r:.90}: {error.message}", hint=error.hint) from error


def hash_of(record: Mapping[str, Any]) -> str:
    """The hash that belongs to a record as JSON values, whether or not its `hash` is among them."""
    return digest_bytes(canonical({name: value for name, value in record.items() if name != "hash"}))


def head(connection: Connection) -> Head:
    """The last record's number and hash."""
    query = select(audit_log.c.sequence, audit_log.c.hash).order_by(audit_log.c.sequence.desc()).limit(1)
    row = connection.execute(query).first()
    return Head(*row) if row else EMPTY


def head_to_export(connection: Connection) -> Head:
    """The last record that says something else than that the project was copied: so the same project gives the same."""
    query = select(audit_log.c.sequence, audit_log.c.hash).where(audit_log.c.kind.not_like("project.%"))
    row = connection.execute(query.order_by(audit_log.c.sequence.desc()).limit(1)).first()
    return Head(*row) if row else EMPTY


def standing(connection: Connection) -> tuple[Head, int]:
    """The head and the generation, as of one record."""
    row = newest_row(connection, AuditFilter())
    return (Head(row["sequence"], row["hash"]), row["generation"]) if row else (EMPTY, 0)


def newest_row(connection: Connection, wanted: AuditFilter) -> RowMapping | None:
    """The last row that `wanted` lets through."""
    query = _matching(wanted).order_by(audit_log.c.sequence.desc()).limit(1)
    return connection.execute(query).mappings().first()


def holds(connection: Connection, event: AuditEvent) -> bool:
    """Whether `event` is among the last records already. Only one that has a time of its own can be told."""
    if event.at is None:
        return False
    recent = audit_log.c.sequence > head(connection).records - LOOKED_BACK
    same = (audit_log.c[name] == getattr(event, name) for name in ("kind", "who", "what", "why", "tenant"))
    query = select(audit_log.c.sequence).where(recent, audit_log.c.at == time_text(event.at), *same).limit(1)
    return connection.execute(query).first() is not None


def hash_at(connection: Connection, sequence: int) -> str | None:
    """The hash of one record; None if there is no such record."""
    found: str | None = connection.execute(
        select(audit_log.c.hash).where(audit_log.c.sequence == sequence)
    ).scalar_one_or_none()
    return found


def generation(connection: Connection) -> int:
    """How many changes there were; 0 for a registry where nothing ever happened."""
    query = select(audit_log.c.generation).order_by(audit_log.c.sequence.desc()).limit(1)
    return connection.execute(query).scalar() or 0


def newest(connection: Connection, wanted: AuditFilter, limit: int) -> list[AuditRecord]:
    """The last `limit` records that `wanted` lets through, newest first."""
    query = _matching(wanted).order_by(audit_log.c.sequence.desc()).limit(limit)
    return [to_record(row) for row in connection.execute(query).mappings()]


def each(connection: Connection, wanted: AuditFilter) -> Iterator[AuditRecord]:
    """All of them, oldest first, without holding them all."""
    for row in rows(connection, _matching(wanted)):
        yield to_record(row)


def rows(connection: Connection, query: Select[Any]) -> Iterator[RowMapping]:
    """The rows of a query on the log, oldest first, read in pieces."""
    query = query.order_by(audit_log.c.sequence).execution_options(yield_per=1000)
    with connection.execute(query) as result:
        yield from result.mappings()


def to_record(row: RowMapping) -> AuditRecord:
    """The record of one row. Raises RegistryUnreadable if a column does not decode."""
    try:
        for name, expected, nullable in _TYPES:
            if not isinstance(row[name], expected) and not (nullable and row[name] is None):
                raise ValueError(f"{name}: expected {expected.__name__}, found {type(row[name]).__name__}")
        details = json.loads(row["details"])
        if not isinstance(details, dict) or canonical(details).decode() != row["details"]:
            raise ValueError("details: expected a JSON object in canonical form")
    except (ValueError, ManifestInvalid, RecursionError) as error:
        raise RegistryUnreadable(
            f"record {row['sequence']} of the audit log does not decode: {error}",
            hint="`quire audit verify` finds every record that was changed",
        ) from error
    return AuditRecord(**{**row, "details": details})


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds, so that text order is time order. Naive times are refused."""
    if moment.tzinfo is None:
        raise RecordInvalid(
            f"a time must carry its zone, found the naive {moment.isoformat()}",
            hint="use datetime.now(UTC)",
        )
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _matching(wanted: AuditFilter) -> Select[Any]:
    query = select(audit_log)
    if wanted.kinds:
        groups = [audit_log.c.kind.startswith(f"{kind}.", autoescape=True) for kind in wanted.kinds if "." not in kind]
        query = query.where(or_(audit_log.c.kind.in_(wanted.kinds), *groups))
    for column, value in (("who", wanted.who), ("module", wanted.module), ("tenant", wanted.tenant)):
        if value is not None:
            query = query.where(audit_log.c[column] == value)
    if wanted.since is not None:
        query = query.where(audit_log.c.at >= time_text(wanted.since))
    if wanted.until is not None:
        query = query.where(audit_log.c.at < time_text(wanted.until))
    return query
