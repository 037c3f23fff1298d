"""Who may do what, written down once more and otherwise: as sentences about names, not as sets of scopes."""

from __future__ import annotations

from dataclasses import dataclass

from quire.access import Principal
from quire.core import Scope

GRANTS = """
reader     read
publisher  read publish
auditor    audit
admin      read publish audit keys
monitor    observe
operator   read publish audit keys observe
"""


@dataclass(frozen=True)
class Thing:
    """What is acted upon: a module by scope and owner, or the server (no scope)."""

    scope: Scope | None
    owner: str


def may(principal: Principal, action: str, thing: Thing) -> bool:
    """The oracle."""
    lines = [line.split() for line in GRANTS.strip().splitlines()]
    if not [1 for role, *granted in lines if role in principal.roles and action in granted]:
        return False
    if "operator" in principal.roles:
        return True
    if thing.scope is None:
        return action == "observe"
    kind, tenant, inner = address(thing.scope)
    match action:
        case "keys" | "audit":
            return kind == "tenant" and tenant == principal.tenant
        case "read":
            return sees(principal, kind, tenant, inner)
        case "publish":
            owner = thing.owner if kind == "public" else tenant
            return sees(principal, kind, tenant, inner) and owner == principal.tenant
    return False


def sees(principal: Principal, kind: str, tenant: str, inner: str) -> bool:
    if kind == "public":
        return True
    if tenant != principal.tenant:
        return False
    if kind == "workspace":
        return any(inner == name for name in principal.workspaces)
    return kind == "tenant" or inner == principal.user


def address(scope: Scope) -> tuple[str, str, str]:
    """Kind, tenant, and workspace or user."""
    tenant, _, inner = scope.owner.partition("/")
    return scope.kind, tenant, inner
