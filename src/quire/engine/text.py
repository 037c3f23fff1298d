"""Token ids to text as they come, and the strings that end an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"


class Detokenizer:
    """Decodes one answer piece by piece; the pieces joined are the decoding of the whole.

    A token may be part of a character, and some tokenizers decide about a space by the token before. So each new token
    is decoded together with the ones just before it, and text comes out only once its characters are complete.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0  # ids before this one no longer influence new text
        self._told = 0  # ids before this one have been given out

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes, often "" in the middle of a character. Mutates."""
        self._ids.append(token_id)
        known, now = self._window()
        if now.endswith(INCOMPLETE) or len(now) <= len(known):
            return ""
        self._context, self._told = self._told, len(self._ids)
        return now[len(known) :]

    def finish(self) -> str:
        """What is left at the end, broken characters as U+FFFD. Mutates."""
        known, now = self._window()
        self._context, self._told = self._told, len(self._ids)
        return now[len(known) :]

    def _window(self) -> tuple[str, str]:
        return self._decode(self._ids[self._context : self._told]), self._decode(self._ids[self._context :])


class StopStrings:
    """Finds the stop string that is complete first in a stream, and keeps back text that may become one.

    Of two that end together the longer one counts. So the answer does not depend on how the text comes in pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show, and whether a stop string was reached; nothing after it counts. Mutates."""
        self._held += text
        found = [(at + len(s), at) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:
            shown, self._held = self._held[: min(found)[1]], ""
            return shown, True
        keep = max((n for s in self._stops for n in range(1, len(s)) if self._held.endswith(s[:n])), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, False

    def finish(self) -> str:
        """What was kept back and turned out to be no stop string. Mutates."""
        shown, self._held = self._held, ""
        return shown
