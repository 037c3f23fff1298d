"""How much of what there is: for figures, which name no module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from quire.registry import catalogue
from quire.registry.audit import chain
from quire.registry.audit.events import KINDS, is_change
from quire.registry.schema import audit_log, golden_runs, versions

_CHANGES = sorted(filter(is_change, KINDS))


@dataclass(frozen=True, slots=True)
class Counts:
    """`changes`: records of the audit log by kind. `stale`: live modules by trigger; one may count under several."""

    generation: int
    versions: Mapping[str, int]
    pinned: int
    stale: Mapping[str, int]
    expired: int
    changes: Mapping[str, int]
    golden_green: int
    golden_failed: int


def count(connection: Connection) -> Counts:
    """What the registry holds now."""
    live = catalogue.all_live(connection)
    golden = _by(connection, select(golden_runs.c.green, func.count()).group_by(golden_runs.c.green))
    of_changes = select(audit_log.c.kind, func.count()).where(audit_log.c.kind.in_(_CHANGES))
    return Counts(
        generation=chain.generation(connection),
        versions=_by(connection, select(versions.c.state, func.count()).group_by(versions.c.state)),
        pinned=connection.execute(select(func.count()).where(versions.c.pinned)).scalar_one(),
        stale=Counter(trigger for one in live if one.stale for trigger in one.stale.triggers),
        expired=sum(one.expired for one in live),
        changes=_by(connection, of_changes.group_by(audit_log.c.kind)),
        golden_green=golden.get(True, 0),
        golden_failed=golden.get(False, 0),
    )


def _by(connection: Connection, query: Select[Any]) -> dict[Any, int]:
    return {row[0]: row[1] for row in connection.execute(query)}
