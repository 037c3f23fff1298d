"""A process that maps one module, reads all of it, and says how its pages are counted.

``python -m quire.bench.shared_mapping``, started by `quire.bench.memory`. It stays until its input ends, so that a
second one can map the same files beside it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.artifact import open_artifact
from quire.bench.pages import residency_of
from quire.bench.processes import answer_orders

if TYPE_CHECKING:
    from quire.artifact import Artifact


class Holder:
    """Keeps the artifact of its first order open."""

    def __init__(self) -> None:
        self._held: Artifact | None = None

    def report(self, order: dict[str, Any]) -> dict[str, Any]:
        """Open and check the artifact if it is not open yet; give the memory mapped from its files, in bytes."""
        directory = Path(order["artifact"])
        if self._held is None:
            self._held = open_artifact(directory, expect_digest=order["digest"])
            self._held.verify()
        return asdict(residency_of(directory))


if __name__ == "__main__":
    answer_orders(Holder().report)
