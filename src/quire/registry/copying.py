"""From a registry to a copy of it that questions are answered from: all of it once, then what changed.

The audit log says what changed, so that a change of one module costs that module's rows. Of the log itself only the two
records are copied that say which generation it is and which route table is in force: its past is read where it is kept.
What tenants used is not copied: it changes without a record. Nor who follows the registry.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, Table, select, text

from quire.registry.audit import AuditFilter, chain
from quire.registry.routes import MOVES
from quire.registry.schema import (
    api_keys,
    audit_log,
    gateways,
    golden_runs,
    golden_suites,
    metadata,
    route_tables,
    tenant_use,
    versions,
)

BATCH = 200  # rows at a time: a manifest has some kilobytes, the weights of a route table megabytes
_KEPT_AS_THEY_ARE = {  # rows that never change, by what they are known
    route_tables: route_tables.c.digest,
    golden_suites: golden_suites.c.checksum,
    golden_runs: golden_runs.c.sequence,
}
_APART = {audit_log, gateways, tenant_use, versions, *_KEPT_AS_THEY_ARE}


def copy_all(source: Connection, target: Connection) -> None:
    """Make a copy anew. Both connections are in a transaction; that of `source` sees one snapshot."""
    target.execute(text("PRAGMA defer_foreign_keys = ON"))
    for table in metadata.tables.values():
        target.execute(table.delete())
    _copy(source, target, select(versions), versions)
    _copy_small(source, target)


def copy_changes(source: Connection, target: Connection, since: int) -> None:
    """Bring a copy that is as of record `since` up to date."""
    changed = select(audit_log.c.module).distinct().where(audit_log.c.sequence > since, chain.CHANGES)
    modules = [name for name in source.execute(changed).scalars() if name is not None]
    target.execute(text("PRAGMA defer_foreign_keys = ON"))  # children of other modules get their parents back
    of_them = versions.c.module_id.in_(modules)
    target.execute(versions.delete().where(of_them))
    _copy(source, target, select(versions).where(of_them), versions)
    _copy_small(source, target)


def revoked(copy: Connection) -> frozenset[str]:
    """What may never be used again: digests of versions, and ids of keys."""
    digests = copy.execute(select(versions.c.digest).where(versions.c.state == "revoked")).scalars()
    keys = copy.execute(select(api_keys.c.key_id).where(api_keys.c.revoked_at.is_not(None))).scalars()
    return frozenset([*digests, *keys])


def hold_revoked(copy: Connection, names: frozenset[str]) -> None:
    """Let `names`, as `revoked` gives them, be revoked in the copy whatever the registry says."""
    if names:
        copy.execute(versions.update().where(versions.c.digest.in_(names)).values(state="revoked"))
        still = api_keys.c.key_id.in_(names) & api_keys.c.revoked_at.is_(None)
        copy.execute(api_keys.update().where(still).values(revoked_at=api_keys.c.created_at))


def _copy_small(source: Connection, target: Connection) -> None:
    for table, name in _KEPT_AS_THEY_ARE.items():
        there, here = (set(at.execute(select(name)).scalars()) for at in (source, target))
        target.execute(table.delete().where(name.in_(here - there)))
        _copy(source, target, select(table).where(name.in_(there - here)), table)
    for table in metadata.sorted_tables:
        if table not in _APART:
            target.execute(table.delete())
            _copy(source, target, select(table), table)
    target.execute(audit_log.delete())
    last = [chain.newest_row(source, wanted) for wanted in (AuditFilter(), MOVES)]
    for row in {row["sequence"]: row for row in last if row}.values():
        target.execute(audit_log.insert().values(dict(row)))


def _copy(source: Connection, target: Connection, query: Select[Any], table: Table) -> None:
    names = [column.name for column in table.columns if column.computed is None]
    rows = source.execute(query.execution_options(yield_per=BATCH)).mappings()
    for some in rows.partitions():
        target.execute(table.insert(), [{name: row[name] for name in names} for row in some])
