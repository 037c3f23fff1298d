"""Who asks: a principal, and what its roles let it do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Action = Literal["read", "publish", "audit", "keys", "observe"]
Role = Literal["reader", "publisher", "auditor", "admin", "monitor", "operator"]

ACTIONS: tuple[Action, ...] = get_args(Action)
ROLES: dict[Role, frozenset[Action]] = {
    "reader": frozenset({"read"}),
    "publisher": frozenset({"read", "publish"}),
    "auditor": frozenset({"audit"}),
    "admin": frozenset({"read", "publish", "audit", "keys"}),
    "monitor": frozenset({"observe"}),
    "operator": frozenset(ACTIONS),
}
SERVER_ROLES: frozenset[Role] = frozenset({"monitor", "operator"})  # see beyond a tenant: only an operator grants them


@dataclass(frozen=True, slots=True)
class Principal:
    """A tenant's user or program, as authenticated. `user` is empty for a program, which a key stands for.

    Roles say what may be done, never how far one sees: that is what tenant, workspaces and user say. The operator, who
    runs the server and has its files anyway, is the one exception.
    """

    tenant: str
    user: str = ""
    workspaces: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset()
    key_id: str = ""  # of the API key it came with; empty for a token, and on this machine

    @property
    def identity(self) -> tuple[str, str, str]:
        """Equal for requests of the same user, or, without one, of the same key. Nothing is shared beyond it."""
        return (self.tenant, self.user, "" if self.user else self.key_id)

    @property
    def is_operator(self) -> bool:
        return "operator" in self.roles

    def may(self, action: Action) -> bool:
        """Whether any of its roles carries `action`, on whatever it may be done to."""
        return any(action in ROLES.get(role, ()) for role in self.roles)  # an unknown role carries nothing

    def __str__(self) -> str:
        """How the audit log names it: ``acme/ann``, ``acme/key:4f2k``."""
        return f"{self.tenant}/{self.user or (f'key:{self.key_id}' if self.key_id else 'anybody')}"


LOCAL = Principal("local", "local", roles=frozenset({"operator"}))
"""Whoever is at this machine, where no authentication is configured. It can read the files anyway."""
