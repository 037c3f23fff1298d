"""One open module of a pool."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.pool.integrity import UNREADABLE, changed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.artifact import Artifact
    from quire.model.kernels import GuardedRange
    from quire.registry import VersionRecord
    from quire.store import Lease


@dataclass(slots=True)
class Resident:
    """One open artifact. `opening` is held while it is opened and verified, so that this happens once.

    `losses`: how often its module was lost before. `retired`: nobody leases it any more; it closes after its last user.
    `damage`: why what was computed from it must not be used.
    """

    record: VersionRecord
    losses: int
    opening: threading.Lock = field(default_factory=threading.Lock)
    artifact: Artifact | None = None
    guarded: list[GuardedRange] = field(default_factory=list)
    kept: Lease | None = None
    bytes: int = 0
    leases: int = 0
    used_at: float = 0.0
    retired: bool = False
    damage: str = ""

    @property
    def faulted(self) -> bool:
        """Whether a file had less than is mapped of it, or could not be read, and zeros were read in its place."""
        return any(each.faulted for each in self.guarded)

    def check(self) -> None:
        """Raises ModuleChanged if it is known to be damaged. Cheap: it is asked for each request after each step."""
        if self.damage or self.faulted:
            raise changed(self.record, self.damage or UNREADABLE)


def check_all(residents: Sequence[Resident]) -> None:
    """Raises ModuleChanged if one of them is known to be damaged."""
    for resident in residents:
        resident.check()
