"""Numbers with units and targets, and arms that take turns."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Arm = Callable[[], float]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach."""

    comparison: Literal["at least", "at most"]
    bound: float

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.comparison == "at least" else value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a report. `value` is the median of `samples` where there are any; both are in `unit`."""

    name: str
    value: float
    unit: str
    samples: tuple[float, ...] = ()
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return self.target.met_by(self.value) if self.target else None

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON values."""
        entry: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit}
        if self.samples:
            entry["samples"] = list(self.samples)
        if self.target:
            entry["target"] = {"comparison": self.target.comparison, "bound": self.target.bound}
            entry["met"] = self.met
        if self.note:
            entry["note"] = self.note
        return entry


def at_least(bound: float) -> Target:
    return Target("at least", bound)


def at_most(bound: float) -> Target:
    return Target("at most", bound)


def milliseconds(name: str, seconds: Sequence[float], *, target: Target | None = None, note: str = "") -> Figure:
    """The median of `seconds` as a figure in ms."""
    samples = tuple(s * 1e3 for s in seconds)
    return Figure(name=name, value=statistics.median(samples), unit="ms", samples=samples, target=target, note=note)


def rate(name: str, amount: float, seconds: Sequence[float], unit: str, *, note: str = "") -> Figure:
    """The median of `amount` over each of `seconds`."""
    samples = tuple(amount / s for s in seconds)
    return Figure(name=name, value=statistics.median(samples), unit=unit, samples=samples, note=note)


def ratio(name: str, above: Figure, below: Figure, *, target: Target | None = None, note: str = "") -> Figure:
    """The median of `above` over the median of `below`."""
    return Figure(name=name, value=above.value / below.value, unit="x", target=target, note=note)


def alternate(arms: Mapping[str, Arm], rounds: int, say: Say) -> dict[str, list[float]]:
    """Run every arm once per round and collect what each returns, in seconds.

    A machine that others use is faster in one minute than in the next; arms that take turns share its moods. The order
    is turned by one each round, so that no arm always runs behind the same other one.
    """
    names = list(arms)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            say(f"round {number + 1} of {rounds}: {name}")
            gc.collect()
            seconds[name].append(arms[name]())
    return seconds
