"""The states of a version, and the only ways from one to another.

                            ┌────── publish, rollback ──────┐
                            v                               │
    candidate ─ publish ─> live ─ retire, or another's ─> retired
        │                   │      publish or rollback      │
        └────── revoke ─────┴─────────── revoke ────────────┴──> revoked

    from \\ to    live     retired   revoked
    candidate    yes      no        yes
    live         -        yes       yes
    retired      yes      -         yes
    revoked      no       no        -

Retired means: was live once. Revoked is final. Asking for the state a version already has changes nothing
and leaves no entry. `make_live` is the only way to live, and a version that declares golden tests goes it only if they
are green on the bytes it has: also after a rollback. Two rules tie a version to its ancestors, whose KV it was computed
on:

* it goes live only if every ancestor is live or retired, with the bytes it was compiled on; in one
  `publish` of several versions, all of them count as published;
* revoking a version revokes all its descendants, which answer from what it said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from sqlalchemy import Connection

from quire.core import State
from quire.errors import IllegalTransition
from quire.registry import canary_rows, catalogue, golden, history
from quire.registry.records import Action, VersionRecord
from quire.registry.schema import versions

TRANSITIONS: dict[State, tuple[State, ...]] = {
    "candidate": ("live", "revoked"),
    "live": ("retired", "revoked"),
    "retired": ("live", "revoked"),
    "revoked": (),
}

_HINTS: dict[State, str] = {
    "candidate": "a candidate was never live: publish it, revoke it, or let `quire gc` forget it",
    "live": "publish another version, or retire this one",
    "retired": "publish it again, or revoke it",
    "revoked": "a revoked version stays revoked: change its sources or layout and build again",
}


def move(
    connection: Connection,
    record: VersionRecord,
    to_state: State,
    *,
    action: Action,
    actor: str,
    reason: str,
) -> VersionRecord:
    """Changes the state of one row and notes it; nothing if it has that state. Raises IllegalTransition."""
    if record.state == to_state:
        return record
    if to_state not in TRANSITIONS[record.state]:
        allowed = ", ".join(TRANSITIONS[record.state]) or "none"
        raise IllegalTransition(
            f"{record.ref} cannot go from {record.state} to {to_state}; allowed from there: {allowed}",
            hint=_HINTS[record.state],
        )
    same = (versions.c.module_id == record.module_id) & (versions.c.version == record.version)
    connection.execute(versions.update().where(same).values(state=to_state))
    canary_rows.end_with(connection, record, to_state, actor=actor, reason=reason)
    history.note(
        connection,
        record,
        action,
        actor=actor,
        reason=reason,
        from_state=record.state,
        to_state=to_state,
    )
    return replace(record, state=to_state)


def make_live(
    connection: Connection,
    wanted: Sequence[VersionRecord],
    *,
    action: Literal["publish", "rollback"],
    actor: str,
    reason: str,
) -> tuple[VersionRecord, ...]:
    """Makes each live and retires what was.

    Raises IllegalTransition, ChainBroken, GoldenNotRun, GoldenFailed; then nothing happens.
    """
    _one_per_module(wanted)
    for record in wanted:
        if record.state != "live":
            canary_rows.end_with(connection, record, "live", actor=actor, reason=reason)
        previous = catalogue.live_or_none(connection, record.module_id)
        if previous and previous.version != record.version:
            because = f"{record.version} took its place: {reason}"
            move(connection, previous, "retired", action="retire", actor=actor, reason=because)
        move(connection, record, "live", action=action, actor=actor, reason=reason)
    for record in wanted:
        check_ancestors(connection, record)
        golden.require_green(connection, record)
    return tuple(replace(record, state="live") for record in wanted)


def revoke(connection: Connection, record: VersionRecord, *, actor: str, reason: str) -> tuple[VersionRecord, ...]:
    """Revokes `record` and all its descendants, parents first. Returns those whose state it changed."""
    changed: list[VersionRecord] = []
    waiting = [(record, reason)]
    while waiting:
        current, because = waiting.pop(0)
        if current.state != "revoked":
            changed.append(move(connection, current, "revoked", action="revoke", actor=actor, reason=because))
        below = f"its ancestor {record.ref} was revoked: {reason}"
        waiting.extend((child, below) for child in catalogue.children(connection, current))
    return tuple(changed)


def _one_per_module(wanted: Sequence[VersionRecord]) -> None:
    chosen: dict[str, str] = {}
    for record in wanted:
        other = chosen.setdefault(record.module_id, record.version)
        if other != record.version:
            raise IllegalTransition(
                f"one version of {record.module_id} can be live, found two to publish: {other} and {record.version}",
                hint="publish one of them",
            )


def check_ancestors(connection: Connection, record: VersionRecord) -> None:
    """Raises IllegalTransition unless what it stands on may serve; ChainBroken."""
    for ancestor in catalogue.chain(connection, record)[:-1]:
        if ancestor.state not in ("live", "retired"):
            raise IllegalTransition(
                f"{record.ref} cannot go live: its ancestor {ancestor.ref} must be live or retired,"
                f" found {ancestor.state}",
                hint=f"publish {ancestor.ref} with it"
                if ancestor.state == "candidate"
                else f"build {record.module_id} on another version of {ancestor.module_id}",
            )
