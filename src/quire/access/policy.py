"""The one policy. Deny by default; the first rule that speaks decides:

1. No role of the principal carries the action: denied.
2. The operator: allowed, on everything.
3. The server itself (no scope): allowed for `observe`, denied for all else.
4. `keys` and `audit` concern a tenant: allowed on one's own.
5. A scope out of reach, or an action that is not about modules: denied.
6. `publish` changes what others read: allowed to the tenant that the module belongs to.
7. `read`: allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.access.events import AccessEvent, Recorder, unrecorded
from quire.access.principal import ROLES, Action, Principal
from quire.access.reach import readable_scopes
from quire.core import Scope
from quire.errors import AccessDenied, ModuleUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and why, as a person reads it later. It is true where it allows."""

    allowed: bool
    reason: str

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Policy:
    """Decides, and tells `record` what it refused."""

    record: Recorder = unrecorded

    def decide(self, principal: Principal, action: Action, scope: Scope | None = None, *, owner: str = "") -> Decision:
        """Whether `principal` may do `action` to what has `scope`. Records nothing.

        Args:
            scope: of a module; ``tenant:T`` for the keys and the audit log of T; None for the server itself.
            owner: the tenant that a public module belongs to. Other scopes name theirs.
        """
        if not principal.may(action):
            needed = " or ".join(role for role, actions in ROLES.items() if action in actions)
            return Decision(False, f"{action} needs the role {needed}")
        if principal.is_operator:
            return Decision(True, "the operator may do everything")
        if scope is None:
            return Decision(action == "observe", f"{action} concerns the whole server")
        if action in {"keys", "audit"}:
            own = scope == Scope("tenant", principal.tenant)
            return Decision(own, f"{action} of {scope}, asked by one of the tenant {principal.tenant}")
        if action == "observe" or scope not in readable_scopes(principal):
            return Decision(False, f"{scope} is out of the reach of {principal}")
        if action == "publish" and tenant_of(scope, owner) != principal.tenant:
            return Decision(False, f"it belongs to {tenant_of(scope, owner) or 'another tenant'}")
        return Decision(True, f"{scope} is within the reach of {principal}")

    def require(
        self, principal: Principal, action: Action, scope: Scope | None = None, *, owner: str = "", name: str = ""
    ) -> None:
        """For what may be known to exist, or whose `name` the principal gave. Raises AccessDenied, and records it."""
        decision = self.decide(principal, action, scope, owner=owner)
        if not decision:
            raise self.refused(principal, f"{action} {name or scope or 'server'}", decision.reason)

    def refused(self, principal: Principal, subject: str, reason: str) -> AccessDenied:
        """The error for what may be known and not done; recorded."""
        self.record(AccessEvent("denied", principal, subject, reason))
        return AccessDenied(f"you may not do this: {reason}", hint="ask an administrator")

    def require_readable(self, principal: Principal, name: str, scopes: Iterable[Scope]) -> None:
        """For a module found by `name`, the `scopes` of its whole chain. Raises ModuleUnknown, and records it."""
        for scope in scopes:
            decision = self.decide(principal, "read", scope)
            if not decision:
                self.record(AccessEvent("denied", principal, f"read {name}", decision.reason))
                raise unseen(name)

    def note_unseen(self, principal: Principal, name: str, action: Action = "read") -> None:
        """Record that `name` was asked for and not found within reach: hidden or missing, which is told alike."""
        if not principal.is_operator:  # from whom nothing is hidden: a misspelt name
            self.record(AccessEvent("denied", principal, f"{action} {name}", "hidden from it, or not there"))


def unseen(name: str) -> ModuleUnknown:
    """What is said of a module that is not to be seen. Nothing in it depends on other modules."""
    return ModuleUnknown(f"no module named {name!r}", hint="GET /v1/modules or `quire ls` lists the modules there are")


def tenant_of(scope: Scope, owner: str) -> str:
    """The tenant a module belongs to: the one its scope names, or for a public one its `owner`."""
    return scope.owner.partition("/")[0] if scope.owner else owner
