"""What access has to say, as the log keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.registry.audit.events import AuditEvent, recordable

if TYPE_CHECKING:
    from quire.access import AccessEvent
    from quire.access.events import AccessEventKind

LONGEST_TOLD = 400  # characters of what a caller wrote
_KINDS: dict[AccessEventKind, str] = {
    "denied": "access.denied",
    "unauthenticated": "access.unauthenticated",
    "key_created": "key.create",
    "key_revoked": "key.revoke",
}


def of_access(event: AccessEvent) -> AuditEvent:
    """`event` as a record, whatever a caller has put into it: the name of a module that was asked for, say."""
    who = event.principal
    return AuditEvent(
        kind=_KINDS[event.kind],
        who=_told(str(who or "nobody")),
        what=_told(event.subject),
        why=_told(event.reason),
        tenant=event.tenant or (who.tenant if who else ""),
        details=event.details,
    )


def _told(text: str) -> str:
    """A caller's words in a form that can always be recorded."""
    return recordable(text[:LONGEST_TOLD])[:LONGEST_TOLD].strip() or "nothing"
