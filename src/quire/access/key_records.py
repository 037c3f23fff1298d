"""An API key as it is kept: everything but its secret, of which only a digest is."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from quire.access.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quire.access.events import AccessEvent

PREFIX = "quire_"  # by which people and secret scanners know one
FORM = re.compile(rf"{PREFIX}([a-z2-7]{{12}})_([A-Za-z0-9_-]{{43}})")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key. `digest`: SHA-256 of the whole key, in hex: a secret of 256 random bits needs no slower function.

    `last_used_at` may be late by as long as uses are gathered before they are written. Times are aware, in UTC.
    """

    key_id: str
    digest: str
    title: str
    principal: Principal
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def state(self, now: datetime | None = None) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC))
        return "expired" if expired else "active"

    def as_json(self) -> dict[str, Any]:
        """For people and programs: all but the digest. Times in ISO 8601, UTC; null for what has not happened."""
        times = {name: getattr(self, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
        return {
            "id": self.key_id,
            "title": self.title,
            "state": self.state(),
            "tenant": self.principal.tenant,
            "user": self.principal.user or None,
            "workspaces": sorted(self.principal.workspaces),
            "roles": sorted(self.principal.roles),
            "created_by": self.created_by,
            **{name: moment.isoformat() if moment else None for name, moment in times.items()},
        }

    def opens_with(self, key: str) -> bool:
        """Whether `key` is this key, in a time that does not depend on where they differ."""
        return hmac.compare_digest(self.digest, digest_of(key))


class KeyStore(Protocol):
    """Where keys are kept. Every method is one transaction; errors are the keeper's own."""

    def add(self, record: KeyRecord, event: AccessEvent) -> None:
        """Keep a new key, and `event` in the audit log, both or neither. Mutates."""

    def find(self, key_id: str) -> KeyRecord | None:
        """The key of exactly that id."""

    def all(self, tenant: str | None) -> list[KeyRecord]:
        """The keys of a tenant, None: of all; oldest first."""

    def revoke(self, key_id: str, at: datetime, event: AccessEvent) -> None:
        """Let it open nothing from now on, with `event` in the audit log; a revoked key stays as it is. Mutates."""

    def used(self, moments: Mapping[str, datetime]) -> None:
        """When keys were last used; an earlier moment than is known changes nothing. Mutates."""


def new_key() -> tuple[str, str]:
    """(id, whole key), both from the system's secure randomness. The id is no secret."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    return key_id, f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
