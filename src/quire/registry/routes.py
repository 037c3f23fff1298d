"""Route tables: every version that was in force, which one is, and the way back.

Which table is in force is what the audit log says last. A table is known by the digest of its document; the registry
does not look into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, select

from quire.errors import NothingToRollBack, RegistryUnreadable, VersionUnknown
from quire.registry.audit import AuditEvent, AuditFilter, AuditLog, AuditRecord, chain
from quire.registry.audit.chain import time_text
from quire.registry.database import Database
from quire.registry.rollback import undo_stack
from quire.registry.schema import route_tables

KEPT = 20  # tables, of those that a rollback would come to: weights of many modules are large
SHORT = 12  # digits that people read and type
MOVES = AuditFilter(kinds=("route.change", "route.rollback"))


@dataclass(frozen=True, slots=True)
class RouteVersion:
    """One route table: its canonical JSON, and the weights that were learned with it."""

    digest: str
    document: str
    weights: bytes
    created_at: datetime  # when it first came into force

    @property
    def version(self) -> str:
        """The first twelve digits of the digest."""
        return self.digest.partition(":")[2][:SHORT]


@dataclass(frozen=True, slots=True)
class RouteDraft:
    """A route table that is to come into force."""

    digest: str
    document: str
    weights: bytes


class RouteTables:
    """Threads may share one. Raises RegistryError."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def put(self, draft: RouteDraft, *, actor: str, reason: str) -> bool:
        """Brings a table into force; whether that changed anything. Mutates, and records `route.change`."""
        with self._audit.writing() as connection:
            return put(connection, draft, actor=actor, reason=reason)

    def rollback(self, *, to: str | None = None, actor: str, reason: str) -> tuple[RouteVersion, RouteVersion]:
        """Brings the table before the one in force, or `to`, back. Mutates, and records `route.rollback`.

        Returns (what was in force, what is now). Repeated, it goes further back.
        Raises NothingToRollBack, VersionUnknown.
        """
        with self._audit.writing() as connection:
            before = digest_in_force(connection)
            earlier = [digest for digest in reversed(_stack(connection)[:-1]) if digest != before]
            kept = [digest for digest in earlier if _find(connection, digest)]
            target = _named(connection, to) if to else _find(connection, kept[0]) if kept else None
            if target is None or before is None or target.digest == before:
                raise NothingToRollBack(
                    f"{target.version} is in force already" if target else "no earlier route table is kept",
                    hint="see `quire route ls`",
                )
            _note(connection, "route.rollback", target.digest, before, actor, reason)
            return _named(connection, before), target

    def in_force(self) -> RouteVersion | None:
        """The table that routing goes by; None before the first."""
        with self._database.reading() as connection:
            digest = digest_in_force(connection)
            return _named(connection, digest) if digest else None

    def digest_in_force(self) -> str | None:
        """Its digest alone. Cheap."""
        with self._database.reading() as connection:
            return digest_in_force(connection)

    def get(self, version: str) -> RouteVersion:
        """The table whose digest is, or alone begins with, `version`. Raises VersionUnknown."""
        with self._database.reading() as connection:
            return _named(connection, version)

    def kept(self) -> frozenset[str]:
        """The digests of all that a rollback could come to, and of the one in force."""
        with self._database.reading() as connection:
            return frozenset(connection.execute(select(route_tables.c.digest)).scalars())

    def history(self, limit: int = 100) -> list[AuditRecord]:
        """The last changes of what is in force, newest first."""
        return self._audit.newest(MOVES, limit)


def put(connection: Connection, draft: RouteDraft, *, actor: str, reason: str) -> bool:
    """`RouteTables.put` within a transaction of the caller's."""
    before = digest_in_force(connection)
    if before == draft.digest:
        return False
    if _find(connection, draft.digest) is None:
        row = {"digest": draft.digest, "document": draft.document, "weights": draft.weights}
        connection.execute(route_tables.insert().values(**row, created_at=time_text(datetime.now(UTC))))
    _note(connection, "route.change", draft.digest, before, actor, reason)
    _drop_all_but(connection, _stack(connection)[-KEPT:])
    return True


def digest_in_force(connection: Connection) -> str | None:
    """The digest of the table that is."""
    newest = chain.newest(connection, MOVES, 1)
    return newest[0].digest if newest else None


def _stack(connection: Connection) -> list[str]:
    return undo_stack((move.digest, move.kind == "route.rollback") for move in chain.each(connection, MOVES))


def _note(connection: Connection, kind: str, digest: str, before: str | None, actor: str, reason: str) -> None:
    what = f"routes {digest.partition(':')[2][:SHORT]}"
    details = {"from": before}
    chain.append(connection, AuditEvent(kind=kind, who=actor, what=what, why=reason, digest=digest, details=details))


def _drop_all_but(connection: Connection, digests: Iterable[str]) -> None:
    connection.execute(route_tables.delete().where(route_tables.c.digest.not_in(list(digests))))


def _find(connection: Connection, digest: str) -> RouteVersion | None:
    row = connection.execute(select(route_tables).where(route_tables.c.digest == digest)).mappings().first()
    return None if row is None else _version(row)


def _named(connection: Connection, version: str) -> RouteVersion:
    prefix = version if version.startswith("b3:") else f"b3:{version}"
    begins = route_tables.c.digest.startswith(prefix, autoescape=True)
    found = connection.execute(select(route_tables).where(begins).limit(2)).mappings().all()
    if len(found) != 1 or not version:
        raise VersionUnknown(
            f"{'several route tables begin' if found else 'no route table begins'} with {version!r}",
            hint="see `quire route ls`",
        )
    return _version(found[0])


def _version(row: RowMapping) -> RouteVersion:
    try:
        return RouteVersion(
            row["digest"], row["document"], bytes(row["weights"]), datetime.fromisoformat(row["created_at"])
        )
    except (ValueError, TypeError) as error:
        raise RegistryUnreadable(
            f"the route table {row['digest']} does not decode: {error}", hint="run `quire route build`"
        ) from error
