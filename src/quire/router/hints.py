"""What a request says about itself besides its question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hints:
    """Empty where nothing is said. `state`: of a workflow. `metadata`: pairs of name and value, each name once."""

    intent: str | None = None
    product: str | None = None
    state: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


NO_HINTS = Hints()
