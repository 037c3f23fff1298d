"""What tenants used in a month, in the registry's database: `limits.UseStore`."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select, update

from quire.registry.database import Database
from quire.registry.schema import tenant_use


class UseRows:
    """`limits.UseStore`. Raises RegistryError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def used(self, month: str, tenant: str) -> int:
        """Tokens of one tenant in a month such as ``2026-11``."""
        with self._database.reading() as connection:
            return _used(connection, month, tenant)

    def all(self, month: str) -> dict[str, int]:
        """Tokens of that month by tenant."""
        with self._database.reading() as connection:
            rows = connection.execute(select(tenant_use).where(tenant_use.c.month == month))
            return {row.tenant_id: row.tokens for row in rows}

    def add(self, used: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        """Count more tokens by (month, tenant), and give what there is then. Mutates."""
        with self._database.writing() as connection:
            for (month, tenant), tokens in used.items():
                same = (tenant_use.c.month == month) & (tenant_use.c.tenant_id == tenant)
                more = update(tenant_use).where(same).values(tokens=tenant_use.c.tokens + tokens)
                if not connection.execute(more).rowcount:
                    row = {"month": month, "tenant_id": tenant, "tokens": tokens}
                    connection.execute(tenant_use.insert().values(row))
            return {of: _used(connection, *of) for of in used}


def _used(connection: Connection, month: str, tenant: str) -> int:
    query = select(tenant_use.c.tokens).where(tenant_use.c.month == month, tenant_use.c.tenant_id == tenant)
    return connection.execute(query).scalar() or 0
