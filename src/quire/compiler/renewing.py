"""Time to live: when a version expires, and when a build gives it new time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.compiler.planning import ModulePlan
    from quire.core import ModuleSpec
    from quire.registry import Registry, VersionRecord


def expiry_of(spec: ModuleSpec, now: datetime | None = None) -> datetime | None:
    """When a version that is built or renewed now expires; None: never."""
    return (now or datetime.now(UTC)) + timedelta(seconds=spec.ttl_seconds) if spec.ttl_seconds else None


def due(record: VersionRecord, spec: ModuleSpec) -> str:
    """Why a version that is as its inputs say gets another expiry; "" if it keeps the one it has.

    It gets new time when its time is over, not before: a build that finds nothing to do says nothing about the sources.
    """
    if record.expires_at is None:
        return "it gets a time to live" if spec.ttl_seconds else ""
    if not spec.ttl_seconds:
        return "it has no time to live any more"
    if record.expired:
        return f"it expired at {record.expires_at:%Y-%m-%d %H:%M} UTC"
    longest = expiry_of(spec)
    return "its time to live is shorter now" if longest and record.expires_at > longest else ""


def renew(plan: ModulePlan, record: VersionRecord, registry: Registry, *, actor: str) -> VersionRecord:
    """Give `record` the expiry that its module's `ttl` asks for. Mutates the registry, and no bytes."""
    fresh = replace(record, expires_at=expiry_of(plan.spec))
    return registry.register(fresh, actor=actor, reason=due(record, plan.spec) or "build")
