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
        *,
        check: Callable[[], None],
        verify: Callable[[], None],
        losses: int,
    ) -> None:
        """
        Args:
            at: when it was usable, in seconds of `time.perf_counter`.
            give_back: called once, by `release`.
            check, verify: what the methods of these names do, where there is something to do.
            losses: how often modules of the chain were lost before, since their bytes had changed.
        """
        self.check = check
        self._verify = verify
        self._losses = losses
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

    @property
    def basis(self) -> str:
        """What KV computed behind this chain may be used with: the digest, and other after bytes of it had changed."""
        return f"{self.leaf.digest}+{self._losses}" if self._losses else self.leaf.digest

    @property
    def untouched(self) -> bool:
        """Whether the chain's files are as they were when they were verified. Some `stat` calls; after release too."""
        return not any(artifact.touched() for artifact in self._artifacts)

    def verify(self) -> None:
        """Compare files that were touched with their digests. It may read all bytes of the chain.

        Raises:
            ModuleChanged: the bytes are not those that were verified before.
        """
        self._verify()

    def release(self) -> None:
        """Give the chain back. May be called twice."""
        give_back, self._give_back = self._give_back, None
        if give_back:
            give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
