"""What a tenant has left of its limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Left:
    """Of one rate: what is left of `limit` now, and in how many seconds all of it is there again."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the rates that are limited; None for one that is not."""

    requests: Left | None = None
    tokens: Left | None = None
