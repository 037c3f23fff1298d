"""Servers that follow a registry: which there are, and up to which generation each has followed.

A server says so when it has applied a generation, and every few seconds in any case. One that was cut off goes on with
what it knows for `stale_seconds` and then refuses: after that it need not confirm anything, and is forgotten.
Ages are taken by the database's clock alone, so that servers whose clocks differ agree.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, select, text, update

from quire.errors import RegistryUnreadable
from quire.registry.audit.chain import time_text
from quire.registry.database import Database
from quire.registry.schema import gateways

BEAT_SECONDS = 5.0
SILENT_SECONDS = 15.0  # three beats missed: dead, or cut off
FORGOTTEN_SECONDS = 7 * 86400.0  # one that was killed long before
CONFIRM_SECONDS = 2.0  # a server looks several times a second


@dataclass(frozen=True, slots=True)
class GatewayState:
    """One server. `silent_seconds`: since it was last heard of. `generation`: what it has applied."""

    gateway_id: str
    name: str
    started_at: datetime
    silent_seconds: float
    generation: int
    stale_seconds: float

    @property
    def is_silent(self) -> bool:
        return self.silent_seconds > SILENT_SECONDS

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.gateway_id,
            "name": self.name,
            "started_at": self.started_at.isoformat(),
            "silent_seconds": round(self.silent_seconds, 3),
            "generation": self.generation,
            "state": "silent" if self.is_silent else "following",
        }


class GatewayRows:
    """Threads may share one. Every method raises RegistryError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, gateway_id: str, name: str, started_at: datetime, generation: int, stale_seconds: float) -> None:
        """Say that a server is there and what it has applied. Mutates."""
        values = {"name": name, "generation": generation, "stale_seconds": stale_seconds}
        with self._database.noting() as connection:
            now = _now(connection)
            values["seen_at"] = time_text(now)
            same = update(gateways).where(gateways.c.gateway_id == gateway_id)
            if not connection.execute(same.values(values)).rowcount:
                new = {"gateway_id": gateway_id, "started_at": time_text(started_at), **values}
                connection.execute(gateways.insert().values(new))
                long_ago = time_text(now - timedelta(seconds=max(FORGOTTEN_SECONDS, 2 * stale_seconds)))
                connection.execute(gateways.delete().where(gateways.c.seen_at < long_ago))

    def leave(self, gateway_id: str) -> None:
        """A server has stopped, and answers nothing any more. Mutates."""
        with self._database.noting() as connection:
            connection.execute(gateways.delete().where(gateways.c.gateway_id == gateway_id))

    def all(self) -> list[GatewayState]:
        """Those that may be answering, by name; not those that can no longer."""
        with self._database.reading() as connection:
            now = _now(connection)
            states = [_state(row, now) for row in connection.execute(select(gateways)).mappings()]
        gone = [state for state in states if state.silent_seconds > max(SILENT_SECONDS, state.stale_seconds)]
        return sorted(
            (state for state in states if state not in gone), key=lambda state: (state.name, state.gateway_id)
        )

    def unconfirmed(self, generation: int, *, seconds: float = CONFIRM_SECONDS) -> list[GatewayState]:
        """Those that have not applied `generation` within `seconds` from now. Waits for it."""
        deadline = time.monotonic() + seconds
        while True:
            behind = [state for state in self.all() if state.generation < generation]
            if not behind or time.monotonic() >= deadline:
                return behind
            time.sleep(0.03)


def _now(connection: Connection) -> datetime:
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def _state(row: RowMapping, now: datetime) -> GatewayState:
    try:
        seen = datetime.fromisoformat(row["seen_at"])
        return GatewayState(
            row["gateway_id"],
            row["name"],
            datetime.fromisoformat(row["started_at"]),
            max(0.0, (now - seen) / timedelta(seconds=1)),
            row["generation"],
            row["stale_seconds"],
        )
    except (ValueError, TypeError) as error:
        raise RegistryUnreadable(f"the row of the server {row['gateway_id']!r} does not decode: {error}") from error
