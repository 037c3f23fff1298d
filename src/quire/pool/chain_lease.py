"""A chain of modules in use, and how it came to be usable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.artifact import Artifact
    from quire.core import KVSegment
    from quire.registry import VersionRecord

Tier = Literal["warm", "cold", "remote"]  # open already, on this machine, in the object store
TIERS: tuple[Tier, ...] = ("warm", "cold", "remote")  # the farther, the later


@dataclass(frozen=True, slots=True)
class Restored:
    """How the chain came to be usable. `seconds` covers opening and checking, not the suffix."""

    tier: Tier
    tokens: int
    seconds: float


class ChainLease:
    """A chain in use. Its modules are neither evicted nor deleted until `release`."""

    def __init__(
        self,
        records: tuple[VersionRecord, ...],
        artifacts: tuple[Artifact, ...],
        segments: tuple[KVSegment, ...],
        restored: Restored,
        at: float,
        give_back: Callable[[], None],
    ) -> None:
        """`at`: when it was usable, in seconds of `time.perf_counter`. `give_back`: called once, by `release`."""
        self.records = records
        self.at = at
        self.restored = restored
        self.segments = segments
        self._artifacts = artifacts
        self._give_back: Callable[[], None] | None = give_back

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the whole chain, root first."""
        return [token for artifact in self._artifacts for token in artifact.token_ids]

    @property
    def leaf(self) -> VersionRecord:
        """The module that answers."""
        return self.records[-1]

    def release(self) -> None:
        """Give the chain back. May be called twice."""
        give_back, self._give_back = self._give_back, None
        if give_back:
            give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
