"""A rate per minute: a bucket that holds a minute's worth and fills evenly."""

from __future__ import annotations

from quire.limits.standing import Left


class Bucket:
    """Not thread-safe: its owner has a lock. Times are seconds of one clock that never goes back."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._capacity = per_minute
        self._level = float(per_minute)
        self._at = now

    def seconds_until(self, amount: float, now: float) -> float:
        """How long until `amount` can be taken; 0: now. More than the bucket holds needs it full, and leaves a debt."""
        self._fill(now)
        missing = min(amount, self._capacity) - self._level
        return max(0.0, missing * 60 / self._capacity)

    def take(self, amount: float) -> None:
        """Take `amount`, or with a negative one give back what was taken and not used. Mutates."""
        self._level = min(self._level - amount, self._capacity)

    def set(self, level: float, now: float) -> None:
        """Go on from `level`, which others have found. Mutates."""
        self._level, self._at = min(level, self._capacity), now

    def left(self, now: float) -> Left:
        self._fill(now)
        return Left(self._capacity, max(0, int(self._level)), (self._capacity - self._level) * 60 / self._capacity)

    def _fill(self, now: float) -> None:
        self._level = min(self._level + (now - self._at) * self._capacity / 60, self._capacity)
        self._at = now
