"""From a module's name to its chain, for a principal: what it may not see is not found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.access import Policy, Principal, readable_scopes
from quire.errors import ModuleUnknown

if TYPE_CHECKING:
    from quire.registry import Registry, VersionRecord


def find_chain(registry: Registry, policy: Policy, principal: Principal, name: str) -> tuple[VersionRecord, ...]:
    """The version that ``name`` or ``name@version`` stands for, after its ancestors, root first.

    Raises:
        ModuleUnknown: there is none, or the principal may not see it or an ancestor of it; recorded as a denial.
        VersionUnknown, NoLiveVersion: of a module that it sees.
        ChainBroken.
    """
    try:
        record = registry.within(readable_scopes(principal)).resolve(name)
    except ModuleUnknown:
        policy.note_unseen(principal, name)
        raise
    chain = registry.chain(record)
    policy.require_readable(principal, name, [scope for link in chain for scope in link.scopes])
    return chain
