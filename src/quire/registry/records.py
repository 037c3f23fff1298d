"""What the registry keeps and hands out. Frozen, comparable, free of the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from quire.core import ModuleRef, Scope, State
from quire.errors import ModuleExpired
from quire.registry.staleness import Staleness

Action = Literal[
    "register", "replace", "renew", "declare", "test", "publish", "retire", "revoke", "rollback", "pin", "unpin",
    "forget",
]  # fmt: skip


class LayoutRef(NamedTuple):
    """The layout a module was laid out by."""

    id: str
    version: str
    checksum: str


class SourceRef(NamedTuple):
    """One source: its path in the project, the digest of its bytes and that of its canonical text."""

    path: str
    digest: str
    text_digest: str


class MadeFor(NamedTuple):
    """A version, and what it was made for."""

    module_id: str
    version: str
    model_fingerprint: str
    tokenizer_fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One version of one module as the catalogue knows it.

    `version` abbreviates `key`; `digest` names the artifact. `position_start` and `token_count` are in
    tokens, `bytes` is the artifact's size at rest. `inputs` are the key's canonical inputs and `manifest`
    the artifact's canonical JSON. Times are aware, in UTC. `stale`: what its inputs have become since; `narrowed`: the
    scope that its readers must have beside its own, since the module's acl is another by now.
    """

    module_id: str
    version: str
    key: str
    digest: str
    state: State = "candidate"
    parent: ModuleRef | None = None
    tenant_id: str
    scope: Scope
    title: str
    token_count: int
    position_start: int
    bytes: int
    model_fingerprint: str
    tokenizer_fingerprint: str
    layout: LayoutRef
    codec: str
    sources: tuple[SourceRef, ...]
    inputs: dict[str, Any] = field(hash=False)
    manifest: str
    created_at: datetime
    expires_at: datetime | None = None
    pinned: bool = False
    verification: dict[str, Any] | None = field(default=None, hash=False)
    stale: Staleness | None = None
    narrowed: Scope | None = None

    @property
    def ref(self) -> ModuleRef:
        """The noun other packages exchange."""
        return ModuleRef(self.module_id, self.version, self.digest)

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)

    def check_unexpired(self) -> None:
        """Raises ModuleExpired, naming the moment: nothing is generated from then on."""
        if self.expires_at is not None and self.expired:
            raise ModuleExpired(
                f"{self.ref} expired at {self.expires_at:%Y-%m-%d %H:%M:%S} UTC",
                hint="`quire build` renews it if its sources are as they were, and compiles it if not",
            )

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Who reads it must be within all of these."""
        return (self.scope,) if self.narrowed is None else (self.scope, self.narrowed)


@dataclass(frozen=True, slots=True)
class ModuleSummary:
    """One module: which version is live, if any, and how many are registered."""

    module_id: str
    live: str | None
    versions: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One change of a module, by whom and why: a record of the audit log, of the kinds ``module.*``."""

    sequence: int
    at: datetime
    actor: str
    action: Action
    module_id: str
    version: str
    digest: str
    from_state: State | None
    to_state: State | None
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something `integrity` found wrong. `check` is a stable name, `subject` what it is about."""

    check: str
    subject: str
    problem: str
