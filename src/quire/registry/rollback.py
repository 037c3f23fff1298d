"""Going back to what was live before, by history and not by age."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from quire.errors import IllegalTransition, NothingToRollBack
from quire.registry import catalogue, history, lifecycle
from quire.registry.records import VersionRecord


def roll_back(
    connection: Connection, module_id: str, to: str | None, *, actor: str, reason: str
) -> tuple[VersionRecord | None, VersionRecord]:
    """What was live (None if nothing) and what is now. See `Registry.rollback`."""
    before = catalogue.live_or_none(connection, module_id)
    target = find_target(connection, module_id, to)
    (after,) = lifecycle.make_live(connection, [target], action="rollback", actor=actor, reason=reason)
    return before, after


def find_target(connection: Connection, module_id: str, to: str | None) -> VersionRecord:
    """Where a rollback goes. Raises NothingToRollBack, ModuleUnknown, VersionUnknown, IllegalTransition."""
    catalogue.all_versions(connection, module_id)  # names the error for a module that does not exist
    if to is None:
        return _previous(connection, module_id)
    target = catalogue.find(connection, module_id, to)
    _check_was_live(target)
    return target


def undo_stack(moves: Iterable[tuple[str, bool]]) -> list[str]:
    """The versions that were live, the newest last, without those that a rollback left behind.

    `moves`: each version that became live, oldest first, and whether by a rollback. After publishing 1, 2, 3 and
    rolling back it is [1, 2]: the next rollback goes to 1, not back to 3.
    """
    stack: list[str] = []
    for version, went_back in moves:
        below = stack[:-1]
        if went_back and version in below:
            last = len(below) - 1 - below[::-1].index(version)
            stack = below[: last + 1]
        else:
            stack.append(version)
    return stack


def _previous(connection: Connection, module_id: str) -> VersionRecord:
    for version in reversed(_undo_stack(connection, module_id)[:-1]):
        record = catalogue.exact(connection, module_id, version)
        # Revoked and forgotten ones are stepped over; so is a version that was forgotten and compiled anew.
        if record is not None and record.state == "retired":
            return record
    raise NothingToRollBack(
        f"{module_id} has no earlier live version that can serve again",
        hint=f"see `quire show {module_id}`, or publish another version",
    )


def _undo_stack(connection: Connection, module_id: str) -> list[str]:
    return undo_stack((e.version, e.action == "rollback") for e in history.went_live(connection, module_id))


def _check_was_live(target: VersionRecord) -> None:
    if target.state == "live":
        raise NothingToRollBack(f"{target.ref} is already live", hint="choose another version")
    if target.state == "candidate":
        raise IllegalTransition(
            f"rollback goes to a version that was live, found {target.ref} candidate; allowed: retired",
            hint=f"it was never live: `quire publish {target.ref}`",
        )
