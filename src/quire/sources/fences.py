"""Code fences of markdown, line by line (CommonMark 0.31, section 4.5).

Wider than CommonMark in one way: a fence may be indented by any amount and may follow list markers, so that
fences inside list items are seen without parsing lists. Fences inside block quotes are not tracked.
"""

from __future__ import annotations

import re

_OPENING = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}(?=[^`]*$)|~{3,})")
_CLOSING = re.compile(r"[ \t]*(`{3,}|~{3,})\s*")


class FenceTracker:
    """Feed it every line of a text in order. `marker` is what closes the open fence, or "" outside of one."""

    def __init__(self) -> None:
        self.marker = ""

    def verbatim(self, line: str) -> bool:
        """Whether `line` is content of a fence; the opening and closing lines are not. Advances the state."""
        if not self.marker:
            opening = _OPENING.match(line)
            self.marker = opening.group(1) if opening else ""
            return False
        closing = _CLOSING.fullmatch(line)
        if closing and closing.group(1).startswith(self.marker):
            self.marker = ""
            return False
        return True


def unclosed_fence(text: str) -> str:
    """The marker that would close a fence still open at the end of `text`, or ""."""
    tracker = FenceTracker()
    for line in text.split("\n"):
        tracker.verbatim(line)
    return tracker.marker


def fenced(code: str, language: str) -> str:
    """`code` as a fenced block, with a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}\n"
