"""What a principal may read, as a set that an index can be divided by.

A search that touches only the parts of its reach does no work for what is hidden: that cannot be counted or timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from quire.core import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from quire.access.principal import Principal

T = TypeVar("T")
PUBLIC = Scope("public")


@dataclass(frozen=True, slots=True)
class Reach:
    """The scopes that may be read: `scopes`, or with `everything` any."""

    scopes: frozenset[Scope] = frozenset()
    everything: bool = False

    def __contains__(self, scope: Scope) -> bool:
        return self.everything or scope in self.scopes

    def select(self, parts: Mapping[Scope, T]) -> Iterator[T]:
        """Those of `parts` that are within reach, the work depending on them and on nothing else."""
        if self.everything:
            yield from parts.values()
            return
        for scope in sorted(self.scopes, key=str):  # the same order whatever else there is
            if scope in parts:
                yield parts[scope]


EVERYTHING = Reach(everything=True)


def scope_within(inner: Scope, outer: Scope) -> bool:
    """Whether everybody who may read `inner` may read `outer`."""
    if outer.kind == "public" or inner == outer:
        return True
    return outer.kind == "tenant" and inner.kind != "public" and inner.owner.split("/")[0] == outer.owner


def readable_scopes(principal: Principal) -> Reach:
    """public, its tenant, each of its workspaces, and itself; nothing without a role that reads."""
    if principal.is_operator:
        return EVERYTHING
    if not principal.may("read"):
        return Reach()
    tenant = principal.tenant
    workspaces = {Scope("workspace", f"{tenant}/{name}") for name in principal.workspaces}
    users = {Scope("user", f"{tenant}/{principal.user}")} if principal.user else set()
    return Reach(frozenset({PUBLIC, Scope("tenant", tenant)} | workspaces | users))
