"""API keys in the registry's database: `access.KeyStore`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from sqlalchemy import BindParameter, RowMapping, bindparam, or_, select, update

from quire.access import AccessEvent, KeyRecord, Principal, Role
from quire.errors import RegistryUnreadable
from quire.registry.audit import AuditLog, chain
from quire.registry.audit.access_events import of_access
from quire.registry.audit.chain import time_text
from quire.registry.database import Database
from quire.registry.schema import api_keys


class KeyRows:
    """`access.KeyStore`. Raises RegistryError."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def add(self, record: KeyRecord, event: AccessEvent) -> None:
        with self._audit.writing() as connection:
            connection.execute(api_keys.insert().values(_to_row(record)))
            chain.append(connection, of_access(event))

    def find(self, key_id: str) -> KeyRecord | None:
        with self._database.reading() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id)).mappings().first()
        return None if row is None else _to_record(row)

    def all(self, tenant: str | None) -> list[KeyRecord]:
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
        if tenant is not None:
            query = query.where(api_keys.c.tenant_id == tenant)
        with self._database.reading() as connection:
            return [_to_record(row) for row in connection.execute(query).mappings()]

    def revoke(self, key_id: str, at: datetime, event: AccessEvent) -> None:
        still = update(api_keys).where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        with self._audit.writing() as connection:
            if connection.execute(still.values(revoked_at=time_text(at))).rowcount:
                chain.append(connection, of_access(event))

    def used(self, moments: Mapping[str, datetime]) -> None:
        at: BindParameter[str] = bindparam("at")
        later = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < at)
        query = update(api_keys).where(api_keys.c.key_id == bindparam("used"), later).values(last_used_at=at)
        with self._database.writing() as connection:
            connection.execute(query, [{"used": key_id, "at": time_text(moment)} for key_id, moment in moments.items()])


def _to_row(record: KeyRecord) -> dict[str, str | None]:
    principal = record.principal
    times = {name: getattr(record, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {
        "key_id": record.key_id,
        "digest": record.digest,
        "title": record.title,
        "tenant_id": principal.tenant,
        "user_name": principal.user,
        "workspaces": json.dumps(sorted(principal.workspaces)),
        "roles": json.dumps(sorted(principal.roles)),
        "created_by": record.created_by,
        **{name: None if moment is None else time_text(moment) for name, moment in times.items()},
    }


def _to_record(row: RowMapping) -> KeyRecord:
    """Raises RegistryUnreadable if a column does not decode."""
    try:
        roles = cast("frozenset[Role]", frozenset(json.loads(row["roles"])))
        workspaces = frozenset(json.loads(row["workspaces"]))
        return KeyRecord(
            key_id=row["key_id"],
            digest=row["digest"],
            title=row["title"],
            principal=Principal(row["tenant_id"], row["user_name"], workspaces, roles, row["key_id"]),
            created_at=datetime.fromisoformat(row["created_at"]),
            created_by=row["created_by"],
            **{name: _time(row[name]) for name in ("expires_at", "revoked_at", "last_used_at")},
        )
    except (ValueError, TypeError) as error:
        raise RegistryUnreadable(
            f"the registry's row of the key {row['key_id']!r} does not decode: {error}",
            hint="restore the registry from a backup, or revoke the key and make another",
        ) from error


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
