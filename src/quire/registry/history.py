"""What became of modules: a view of the audit log, and how its entries get there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection

from quire.access import tenant_of
from quire.core import State
from quire.errors import InvalidSetting, RegistryUnreadable
from quire.registry.audit import chain
from quire.registry.audit.events import AuditEvent, AuditFilter, AuditRecord
from quire.registry.records import Action, HistoryEntry, VersionRecord


def note(
    connection: Connection,
    record: VersionRecord,
    action: Action,
    *,
    actor: str,
    reason: str,
    from_state: State | None,
    to_state: State | None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Appends an entry about `record`, with further `details`. Raises RecordInvalid without an actor and a reason."""
    event = AuditEvent(
        kind=f"module.{action}",
        who=actor,
        what=str(record.ref),
        why=reason,
        digest=record.digest,
        tenant=tenant_of(record.scope, record.tenant_id),
        module=record.module_id,
        details={**(details or {}), "from": from_state, "to": to_state},
    )
    chain.append(connection, event)


def newest(connection: Connection, module_id: str | None, limit: int) -> list[HistoryEntry]:
    """The last `limit` entries, of one module or of all, newest first. Raises InvalidSetting."""
    if limit < 1:
        raise InvalidSetting(f"limit must be 1 or more, found {limit}", hint="the default is 100")
    wanted = AuditFilter(kinds=("module",), module=module_id)
    return [to_entry(record) for record in chain.newest(connection, wanted, limit)]


def went_live(connection: Connection, module_id: str) -> list[HistoryEntry]:
    """The entries by which a version of the module became live, oldest first."""
    # Pinning a live version leaves it live; only these two put one there.
    wanted = AuditFilter(kinds=("module.publish", "module.rollback"), module=module_id)
    return [to_entry(record) for record in chain.each(connection, wanted)]


def was_revoked(connection: Connection, module_id: str, version: str) -> bool:
    """Whether a version of this name ever was."""
    wanted = AuditFilter(kinds=("module.revoke",), module=module_id)
    return any(entry.what == f"{module_id}@{version}" for entry in chain.each(connection, wanted))


def to_entry(record: AuditRecord) -> HistoryEntry:
    """The entry that a record of the kinds ``module.*`` stands for. Raises RegistryUnreadable."""
    try:
        return HistoryEntry(
            sequence=record.sequence,
            at=datetime.fromisoformat(record.at),
            actor=record.who,
            action=cast("Action", record.kind.removeprefix("module.")),
            module_id=record.module or "",
            version=record.what.partition("@")[2],
            digest=record.digest,
            from_state=record.details["from"],
            to_state=record.details["to"],
            reason=record.why,
        )
    except (ValueError, KeyError) as error:
        raise RegistryUnreadable(
            f"record {record.sequence} of the audit log is no entry of a module's history: {error!r}",
            hint="`quire audit verify` finds every record that was changed",
        ) from error
