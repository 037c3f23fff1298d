"""Entering a compiled version into the catalogue."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from quire.access import scope_within
from quire.core import ModuleRef
from quire.errors import IllegalTransition, RecordInvalid, ScopeTooWide
from quire.golden import Suite
from quire.registry import catalogue, golden, history, lifecycle
from quire.registry.records import VersionRecord
from quire.registry.rows import to_row
from quire.registry.schema import versions


def register(
    connection: Connection, record: VersionRecord, suite: Suite | None, *, actor: str, reason: str
) -> VersionRecord:
    """Inserts a candidate, or brings the row of the same version up to date. See `Registry.register`."""
    to_row(record)  # a record that contradicts itself is refused even where nothing would be written
    _check_scope(record, catalogue.parent_of(connection, record))
    present = catalogue.exact(connection, record.module_id, record.version)
    if present is None:
        _check_never_revoked(connection, record)
        candidate = replace(record, state="candidate")
        connection.execute(versions.insert().values(to_row(candidate)))
        history.note(
            connection,
            candidate,
            "register",
            actor=actor,
            reason=reason,
            from_state=None,
            to_state="candidate",
        )
        if suite is not None:
            golden.declare(connection, candidate, suite, actor=actor, reason=reason)
        return catalogue.find(connection, record.module_id, record.version)
    _check_same_key(present, record)
    if (present.digest, present.expires_at) == (record.digest, record.expires_at):
        return present
    return _bring_up_to_date(connection, present, record, actor=actor, reason=reason)


def _bring_up_to_date(
    connection: Connection, present: VersionRecord, record: VersionRecord, *, actor: str, reason: str
) -> VersionRecord:
    """Takes everything from `record` but what the registry itself decided: the state and the pin."""
    updated = replace(record, state=present.state, pinned=present.pinned)
    same = (versions.c.module_id == record.module_id) & (versions.c.version == record.version)
    connection.execute(versions.update().where(same).values(to_row(updated)))
    history.note(
        connection,
        updated,
        "renew" if present.digest == record.digest else "replace",
        actor=actor,
        reason=reason,
        from_state=present.state,
        to_state=present.state,
    )
    if present.digest != record.digest and present.state == "live" and golden.declared(connection, present):
        because = f"its bytes were replaced, and its golden tests have not been run on them: {reason}"
        lifecycle.move(connection, updated, "retired", action="retire", actor=actor, reason=because)
    return catalogue.find(connection, record.module_id, record.version)


def _check_scope(record: VersionRecord, parent: VersionRecord | None) -> None:
    """The compiler refuses it too, but not every record comes from this compiler."""
    if parent is not None and not scope_within(record.scope, parent.scope):
        raise ScopeTooWide(
            f"{record.ref} ({record.scope}) would be visible to more readers than its parent {parent.ref} "
            f"({parent.scope}), whose text it was computed over",
            hint="narrow its acl and compile it again",
        )


def _check_never_revoked(connection: Connection, record: VersionRecord) -> None:
    """Forgetting a revoked version and compiling the same again must not bring it back."""
    if history.was_revoked(connection, record.module_id, record.version):
        raise IllegalTransition(
            f"{record.ref} was revoked, and stays so though it was forgotten",
            hint="change its sources or layout and build again",
        )


def _check_same_key(present: VersionRecord, record: VersionRecord) -> None:
    """One version, one key, hence one parent; only its bytes may differ."""
    if present.key != record.key:
        raise RecordInvalid(
            f"{record.ref} is registered with key {present.key}, found key {record.key}",
            hint="two keys share their first digits: change a source, or forget the registered version",
        )
    if _version_of(present.parent) != _version_of(record.parent):
        raise RecordInvalid(
            f"{record.ref} is registered after {present.parent}, found parent {record.parent}",
            hint="a key includes its parent's key, so one of the two records is wrong",
        )


def _version_of(parent: ModuleRef | None) -> str | None:
    return None if parent is None else str(parent)
