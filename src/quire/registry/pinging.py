"""SQLAlchemy's PostgreSQL with psycopg, which does not wait long for a connection that lay idle."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

PING_SECONDS = 1.0  # a server that is slower than that is asked again, on a new connection


class Dialect(PGDialect_psycopg):
    """Registered as `postgres.DRIVER`."""

    supports_statement_cache = True

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Whether an idle connection still answers. Its server may have gone without a word."""
        patience, dbapi_connection.patience = dbapi_connection.patience, PING_SECONDS
        try:
            return bool(super().do_ping(dbapi_connection))  # type: ignore[no-untyped-call]
        finally:
            dbapi_connection.patience = patience
