"""The audit trail: one entry per change, written in the transaction that makes the change."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from quire.core import State
from quire.errors import InvalidSetting, RecordInvalid
from quire.registry.records import Action, HistoryEntry, VersionRecord
from quire.registry.rows import time_text, to_entry
from quire.registry.schema import history


def note(
    connection: Connection,
    record: VersionRecord,
    action: Action,
    *,
    actor: str,
    reason: str,
    from_state: State | None,
    to_state: State | None,
) -> None:
    """Appends an entry about `record`. Raises RecordInvalid without an actor and a reason."""
    for name, value in (("actor", actor), ("reason", reason)):
        if not value.strip():
            raise RecordInvalid(
                f"{action} {record.ref}: expected {name} to say who or why, found nothing",
                hint="a change that nobody explained cannot be judged later",
            )
    connection.execute(
        history.insert().values(
            at=time_text(datetime.now(UTC)),
            actor=actor,
            action=action,
            module_id=record.module_id,
            version=record.version,
            digest=record.digest,
            from_state=from_state,
            to_state=to_state,
            reason=reason,
        )
    )


def newest(connection: Connection, module_id: str | None, limit: int) -> list[HistoryEntry]:
    """The last `limit` entries, of one module or of all, newest first. Raises InvalidSetting."""
    if limit < 1:
        raise InvalidSetting(f"limit must be 1 or more, found {limit}", hint="the default is 100")
    query = select(history).order_by(history.c.sequence.desc()).limit(limit)
    if module_id is not None:
        query = query.where(history.c.module_id == module_id)
    return [to_entry(row) for row in connection.execute(query).mappings()]


def went_live(connection: Connection, module_id: str) -> list[HistoryEntry]:
    """The entries by which a version of the module became live, oldest first."""
    query = select(history).where(history.c.module_id == module_id, history.c.to_state == "live")
    # Pinning a live version leaves it live; only these two put one there.
    query = query.where(history.c.action.in_(("publish", "rollback"))).order_by(history.c.sequence)
    return [to_entry(row) for row in connection.execute(query).mappings()]


def generation(connection: Connection) -> int:
    """The newest sequence; 0 for a registry where nothing ever happened."""
    newest_sequence: int | None = connection.execute(select(func.max(history.c.sequence))).scalar()
    return newest_sequence or 0
