"""Rows of canaries, and how one ends: whatever moves one of its two versions ends it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from quire.access import tenant_of
from quire.errors import RegistryUnreadable
from quire.registry import figures
from quire.registry.audit import AuditEvent, chain
from quire.registry.audit.chain import time_text
from quire.registry.records import VersionRecord
from quire.registry.schema import canaries


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A candidate beside the live version of its module.

    `percent` of the requests are answered by it; if `shadow`, it is asked what the live version answered, too. `ended`
    says why it did; None while it runs.
    """

    number: int
    module_id: str
    version: str  # of the candidate
    digest: str
    against: str  # the version that was live
    percent: int
    shadow: bool
    started_at: datetime
    started_by: str
    reason: str
    ended_at: datetime | None = None
    ended: str | None = None
    figures: Counter[str] = field(default_factory=Counter, hash=False)

    @property
    def ref(self) -> str:
        return f"{self.module_id}@{self.version}"

    @property
    def told(self) -> str:
        """``10 % of the requests, and in the shadow``."""
        share = f"{self.percent} % of the requests" if self.percent else ""
        return " and ".join(part for part in (share, "every question in the shadow" if self.shadow else "") if part)

    def as_json(self) -> dict[str, Any]:
        return {
            "module": self.module_id,
            "version": self.version,
            "against": self.against,
            "percent": self.percent,
            "shadow": self.shadow,
            "started_at": self.started_at.isoformat(),
            "started_by": self.started_by,
            "reason": self.reason,
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "ended": self.ended,
            **figures.report(self.figures),
        }


def running(connection: Connection, module_id: str | None = None) -> list[Canary]:
    """Those that are, of one module or of all."""
    query = select(canaries).where(canaries.c.ended_at.is_(None)).order_by(canaries.c.module_id)
    if module_id is not None:
        query = query.where(canaries.c.module_id == module_id)
    return [to_canary(row) for row in connection.execute(query).mappings()]


def newest(connection: Connection, module_id: str | None, limit: int) -> list[Canary]:
    """The last that were begun, newest first."""
    query = select(canaries).order_by(canaries.c.number.desc()).limit(limit)
    if module_id is not None:
        query = query.where(canaries.c.module_id == module_id)
    return [to_canary(row) for row in connection.execute(query).mappings()]


def end(connection: Connection, canary: Canary, record: VersionRecord, *, actor: str, reason: str) -> None:
    """Ends it and notes it, with what was seen. `record`: any version of its module, for whose auditors it is."""
    same = canaries.c.number == canary.number
    connection.execute(canaries.update().where(same).values(ended_at=time_text(datetime.now(UTC)), ended=reason))
    note(connection, "canary.end", canary, record, actor=actor, reason=reason, details=dict(canary.figures))


def end_with(connection: Connection, record: VersionRecord, to_state: str, *, actor: str, reason: str) -> None:
    """`record` goes to another state: that ends a canary it takes part in."""
    for canary in running(connection, record.module_id):
        if record.version in (canary.version, canary.against):
            end(connection, canary, record, actor=actor, reason=f"{record.ref} is {to_state}: {reason}")


def note(
    connection: Connection,
    kind: str,
    canary: Canary,
    record: VersionRecord,
    *,
    actor: str,
    reason: str,
    details: Mapping[str, Any],
) -> None:
    """A record in the audit log."""
    event = AuditEvent(
        kind=kind,
        who=actor,
        what=canary.ref,
        why=reason,
        digest=canary.digest,
        tenant=tenant_of(record.scope, record.tenant_id),
        module=canary.module_id,
        details=details,
    )
    chain.append(connection, event)


def add(connection: Connection, number: int, seen: Mapping[str, int]) -> None:
    """Adds to the figures of one that runs; what comes after its end is late, and left out."""
    same = (canaries.c.number == number) & canaries.c.ended_at.is_(None)
    row = connection.execute(select(canaries).where(same)).mappings().first()
    if row is not None:
        total = to_canary(row).figures + Counter(seen)
        connection.execute(canaries.update().where(same).values(figures=json.dumps(total, sort_keys=True)))


def to_canary(row: RowMapping) -> Canary:
    """The canary of one row. Raises RegistryUnreadable."""
    try:
        values = dict(row)
        for name in ("started_at", "ended_at"):
            values[name] = datetime.fromisoformat(values[name]) if values[name] else None
        return Canary(**{**values, "figures": Counter(json.loads(values["figures"]))})
    except (ValueError, TypeError) as error:
        raise RegistryUnreadable(
            f"the canary {row['number']} does not decode: {error}", hint="`quire canary stop` ends it"
        ) from error
