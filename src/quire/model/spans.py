"""Which parts of a fixed space are taken: first fit, lowest addresses first, free neighbours merged."""

from __future__ import annotations

from bisect import bisect_right


class Spans:
    """A space of `size` units, given out in spans `start .. start + units - 1`. A call looks at free spans only.

    The lowest address that fits is taken, so what was never needed at once is never touched.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._free: list[tuple[int, int]] = [(0, size)] if size else []  # (start, end) in order, no two touch

    def take(self, units: int) -> int | None:
        """Start of a new span of `units` > 0, None where no free span is that long. Mutates."""
        fitting = (start for start, end in self._free if end - start >= units)
        start = next(fitting, None)
        if start is not None:
            self._cut(start, units)
        return start

    def give(self, start: int, units: int) -> None:
        """Take back a span, or the end of one. Mutates."""
        self.used -= units
        at = bisect_right(self._free, (start, start))
        end, first, last = start + units, at, at
        if at > 0 and self._free[at - 1][1] == start:
            start, first = self._free[at - 1][0], at - 1
        if at < len(self._free) and self._free[at][0] == end:
            end, last = self._free[at][1], at + 1
        self._free[first:last] = [(start, end)]

    def resize(self, start: int, units: int, wanted: int) -> int | None:
        """Make the span at `start` one of `wanted` > 0 units: in place, or where it fits, perhaps over the old one.

        Returns its new start; None where there is no room, and then nothing has changed. Mutates.
        """
        if wanted <= units:
            if wanted < units:
                self.give(start + wanted, units - wanted)
            return start
        if self._free_after(start + units) >= wanted - units:
            self._cut(start + units, wanted - units)
            return start
        self.give(start, units)
        found = self.take(wanted)
        if found is None:
            self._cut(start, units)
        return found

    def _free_after(self, start: int) -> int:
        """Free units from `start` on without a gap."""
        at = bisect_right(self._free, (start, self.size)) - 1
        return self._free[at][1] - start if at >= 0 and self._free[at][0] <= start else 0

    def _cut(self, start: int, units: int) -> None:
        """Mark `units` from `start` on as taken; they are free and adjoining."""
        self.used += units
        at = bisect_right(self._free, (start, self.size)) - 1
        before, after = (self._free[at][0], start), (start + units, self._free[at][1])
        self._free[at : at + 1] = [span for span in (before, after) if span[0] < span[1]]
