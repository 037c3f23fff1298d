"""What the registry keeps and hands out. Frozen, comparable, free of the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from quire.core import ModuleRef, Scope, State

Action = Literal["register", "replace", "renew", "publish", "retire", "revoke", "rollback", "pin", "unpin", "forget"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One version of one module as the catalogue knows it.

    `version` abbreviates `key`; `digest` names the artifact. `position_start` and `token_count` are in
    tokens, `bytes` is the artifact's size at rest. `inputs` are the key's canonical inputs and `manifest`
    the artifact's canonical JSON. Times are aware, in UTC.
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

    @property
    def ref(self) -> ModuleRef:
        """The noun other packages exchange."""
        return ModuleRef(self.module_id, self.version, self.digest)


@dataclass(frozen=True, slots=True)
class ModuleSummary:
    """One module: which version is live, if any, and how many are registered."""

    module_id: str
    live: str | None
    versions: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One change, by whom and why. `sequence` only grows; entries are never changed or removed."""

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
