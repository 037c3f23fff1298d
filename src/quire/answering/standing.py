"""What a chain that is stale or has expired may still do. Whoever gets here may read all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.errors import ModuleStale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.registry import Staleness, VersionRecord


def staleness_of(chain: Sequence[VersionRecord]) -> Staleness | None:
    """That of the module that answers, or else of the nearest ancestor that is stale: it answers from that one, too."""
    return next((link.stale for link in reversed(chain) if link.stale), None)


def silencing(chain: Sequence[VersionRecord]) -> Staleness | None:
    """The staleness for whose sake a chain does not answer; None: it does."""
    stale = staleness_of(chain)
    return stale if stale and stale.then != "serve" else None


def withheld(chain: Sequence[VersionRecord]) -> str:
    """Why a question that was routed here is answered as not covered; "" if it is not."""
    leaf, stale = chain[-1], staleness_of(chain)
    for link in chain:
        if link.expires_at is not None and link.expired:
            return f"what {leaf.module_id} says about it expired at {link.expires_at:%Y-%m-%d %H:%M} UTC"
    if stale and stale.then == "fallback":
        return f"what {leaf.module_id} says about it is out of date: {stale.said}"
    return ""


def require_current(chain: Sequence[VersionRecord]) -> None:
    """Raises ModuleStale for a chain that does not answer while it is stale, ModuleExpired for one that is over."""
    for link in chain:
        link.check_unexpired()
    if stale := silencing(chain):
        raise ModuleStale(
            f"{chain[-1].ref} is stale since {stale.since:%Y-%m-%d %H:%M} UTC ({stale.said}), and does not answer then",
            hint="`quire build` brings it up to date; `quire status` says what changed",
        )


def warning_values(chain: Sequence[VersionRecord]) -> dict[str, Any] | None:
    """For the `quire` object of an answer: that it may be out of date, and why; None if it is not."""
    stale = staleness_of(chain)
    return None if stale is None else stale_values(stale)


def stale_values(stale: Staleness) -> dict[str, Any]:
    """As JSON values, in words that name no files."""
    return {
        "since": stale.since.isoformat(),
        "triggers": list(stale.triggers),
        "then": stale.then,
        "warning": f"this may be out of date: {stale.said}",
    }
