"""What may go: pins, candidates for garbage collection, forgetting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from quire.errors import InvalidSetting, VersionInUse
from quire.registry import canary_rows, catalogue, golden, history
from quire.registry.records import VersionRecord
from quire.registry.schema import versions


def set_pin(connection: Connection, record: VersionRecord, pinned: bool, *, actor: str, reason: str) -> VersionRecord:
    """Sets or clears the pin and notes it; nothing if it is so already."""
    if record.pinned == pinned:
        return record
    same = (versions.c.module_id == record.module_id) & (versions.c.version == record.version)
    connection.execute(versions.update().where(same).values(pinned=pinned))
    history.note(
        connection,
        record,
        "pin" if pinned else "unpin",
        actor=actor,
        reason=reason,
        from_state=record.state,
        to_state=record.state,
    )
    return replace(record, pinned=pinned)


def forgettable(connection: Connection, keep: int) -> list[VersionRecord]:
    """Children before parents, so that they can be forgotten in this order. See `Registry.gc_candidates`."""
    if keep < 0:
        raise InvalidSetting(f"keep must be 0 or more, found {keep}", hint="0 keeps what is live or pinned")
    present = catalogue.all_versions(connection)
    tried = _in_canaries(connection)
    needed = [record for record in present if tried.get(record.module_id) == record.version]
    kept = _with_ancestors([*_kept(present, keep), *needed], present)
    # Newest registration first is children first: a parent is registered before its child.
    return [record for record in present if (record.module_id, record.version) not in kept]


def pinned_digests(connection: Connection) -> frozenset[str]:
    """See `Registry.pinned_digests`."""
    present = catalogue.all_versions(connection)
    kept = _with_ancestors((record for record in present if record.pinned), present)
    return frozenset(record.digest for record in present if (record.module_id, record.version) in kept)


def forget(connection: Connection, record: VersionRecord, *, actor: str, reason: str) -> None:
    """Removes the row and notes it. Raises VersionInUse."""
    below = catalogue.children(connection, record)
    uses = [
        *(["live"] if record.state == "live" else []),
        *(["pinned"] if record.pinned else []),
        *(["in a canary"] if _in_canaries(connection).get(record.module_id) == record.version else []),
        *(f"the parent of {child.ref}" for child in below),
    ]
    if uses:
        raise VersionInUse(
            f"{record.ref} can be forgotten only when nothing needs it, found it {', '.join(uses)}",
            hint="retire or unpin it, and forget its children first",
        )
    same = (versions.c.module_id == record.module_id) & (versions.c.version == record.version)
    connection.execute(versions.delete().where(same))
    golden.forget(connection, record)
    history.note(connection, record, "forget", actor=actor, reason=reason, from_state=record.state, to_state=None)


def _in_canaries(connection: Connection) -> dict[str, str]:
    """The candidates that run beside live versions, by module."""
    return {canary.module_id: canary.version for canary in canary_rows.running(connection)}


def _kept(newest_first: Iterable[VersionRecord], keep: int) -> list[VersionRecord]:
    taken: Counter[str] = Counter()
    kept: list[VersionRecord] = []
    for record in newest_first:
        if record.state != "live":
            taken[record.module_id] += 1
        if record.state == "live" or record.pinned or taken[record.module_id] <= keep:
            kept.append(record)
    return kept


def _with_ancestors(kept: Iterable[VersionRecord], present: Iterable[VersionRecord]) -> set[tuple[str, str]]:
    by_name = {(record.module_id, record.version): record for record in present}
    names: set[tuple[str, str]] = set()
    for record in kept:
        current: VersionRecord | None = record
        while current is not None and (current.module_id, current.version) not in names:
            names.add((current.module_id, current.version))
            parent = current.parent
            current = None if parent is None else by_name.get((parent.module_id, parent.version))
    return names
