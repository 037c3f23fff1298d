"""What a trace tells: phases of a request, each within another, and how they went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Attribute = str | bool | int | float | Sequence[str]


@dataclass(frozen=True, slots=True)
class Phase:
    """From `began` to `ended`, in seconds of `time.perf_counter`. `error`: a code, if it failed."""

    name: str
    began: float
    ended: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    error: str = ""
    inner: tuple[Phase, ...] = ()
