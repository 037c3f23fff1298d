"""Noting which versions are stale, and taking readers away from them before they are built anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, select

from quire.access import scope_within, tenant_of
from quire.core import Scope, WhenStale
from quire.registry import catalogue
from quire.registry.audit import AuditEvent, chain
from quire.registry.records import VersionRecord
from quire.registry.rows import scope_text
from quire.registry.schema import versions
from quire.registry.staleness import Reason, Staleness


@dataclass(frozen=True, slots=True)
class Mark:
    """What somebody found out about a version: why it is stale, or with no reasons that it is not."""

    module_id: str
    version: str
    reasons: tuple[Reason, ...]
    then: WhenStale


Admits = Callable[[AuditEvent], bool]


def mark(
    connection: Connection, marks: Iterable[Mark], *, actor: str, admits: Admits | None = None
) -> list[VersionRecord]:
    """Brings the marks of some versions up to date; gives the records that changed. Versions that are gone are skipped.

    `since` stays what it was as long as a version is stale without a break. `admits`: for a machine:
    whether it may change or clear a mark now. A new mark needs no permission.
    """
    changed: list[VersionRecord] = []
    for one in marks:
        record = catalogue.exact(connection, one.module_id, one.version)
        if record is None or not _is_news(record.stale, one):
            continue
        since = record.stale.since if record.stale else datetime.now(UTC)
        stale = Staleness(since, one.then, one.reasons) if one.reasons else None
        marked = replace(record, stale=stale)
        why = "; ".join(map(str, one.reasons)) or "it is what its inputs say again"
        details = {"triggers": list(stale.triggers), "then": stale.then} if stale else {}
        kind = "invalidation.stale" if stale else "invalidation.cleared"
        event = _event(marked, kind, actor, why, details, machine=admits is not None)
        if admits and record.stale and not admits(event):
            continue
        connection.execute(versions.update().where(_is(record)).values(stale=stale.to_text() if stale else None))
        chain.append(connection, event)
        changed.append(marked)
    return changed


def news(connection: Connection, marks: Iterable[Mark]) -> list[Mark]:
    """Those of `marks` that say something new. Changes nothing; reads little."""
    columns = (versions.c.module_id, versions.c.version, versions.c.stale)
    kept = {(module_id, version): stale for module_id, version, stale in connection.execute(select(*columns))}
    return [one for one in marks if (name := (one.module_id, one.version)) in kept and not _says(kept[name], one)]


def _says(text: str | None, found: Mark) -> bool:
    """Whether a mark as it is kept says what was found. A damaged one does not: who reads it anew names the damage."""
    try:
        return not _is_news(None if text is None else Staleness.parse(json.loads(text)), found)
    except (ValueError, TypeError, KeyError):
        return False


def _is_news(kept: Staleness | None, found: Mark) -> bool:
    if kept is None:
        return bool(found.reasons)
    return (kept.reasons, kept.then) != (found.reasons, found.then)


def is_to_narrow(connection: Connection, declared: Mapping[str, Scope]) -> bool:
    """Whether `narrow` would change something. Reads little."""
    columns = (versions.c.module_id, versions.c.scope_kind, versions.c.scope_owner, versions.c.narrowed)
    for module_id, kind, owner, narrowed in connection.execute(select(*columns).distinct()):
        scope = declared.get(module_id)
        if scope and narrowed != (None if scope_within(Scope(kind, owner), scope) else scope_text(scope)):
            return True
    return False


def narrow(
    connection: Connection, declared: Mapping[str, Scope], *, actor: str, admits: Admits | None = None
) -> list[VersionRecord]:
    """Lets only readers within `declared` read what there is of these modules; gives the records that changed.

    Nobody gets to read what he could not before: a wider acl waits for the version that says so. `admits`: for a
    machine: whether it may give readers back now. To take them away needs no permission.
    """
    changed: list[VersionRecord] = []
    for module_id, scope in declared.items():
        records = catalogue.records(connection, catalogue.of_module(module_id))
        before = {record.version: record.narrowed for record in records}
        for record in narrowing(records, scope):
            value = None if record.narrowed is None else scope_text(record.narrowed)
            why = f"the acl of {module_id} is {scope} now, this version says {record.scope}"
            if record.narrowed is None:
                why = f"the acl of {module_id} is {scope}, as this version says"
            details = {"to": str(record.narrowed or record.scope)}
            event = _event(record, "invalidation.narrowed", actor, why, details, machine=admits is not None)
            kept = before[record.version]
            gives_back = kept is not None and not scope_within(record.narrowed or record.scope, kept)
            if admits and gives_back and not admits(event):
                continue
            connection.execute(versions.update().where(_is(record)).values(narrowed=value))
            chain.append(connection, event)
            changed.append(record)
    return changed


def narrowing(records: Iterable[VersionRecord], declared: Scope) -> list[VersionRecord]:
    """Those of one module's versions whose readers have to change, as they are to be."""
    wanted = ((record, None if scope_within(record.scope, declared) else declared) for record in records)
    return [replace(record, narrowed=scope) for record, scope in wanted if record.narrowed != scope]


def _is(record: VersionRecord) -> ColumnElement[bool]:
    return (versions.c.module_id == record.module_id) & (versions.c.version == record.version)


def _event(
    record: VersionRecord, kind: str, actor: str, why: str, details: Mapping[str, object], *, machine: bool
) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        who=actor,
        what=str(record.ref),
        why=why if len(why) <= chain.LONGEST_TEXT else f"{why[: chain.LONGEST_TEXT - 3]}...",
        digest=record.digest,
        tenant=tenant_of(record.scope, record.tenant_id),
        module=record.module_id,
        details=details,
        machine=machine,
    )
