"""Token ids to text as they come, and the strings that end an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"
PATIENCE = 16  # tokens that are kept back for a character to become complete; it has four bytes at most


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
        if now.endswith(INCOMPLETE) and len(self._ids) - self._told > PATIENCE:
            return self._broken(known, now)
        if now.endswith(INCOMPLETE) or len(now) <= len(known):
            return ""
        self._context, self._told = self._told, len(self._ids)
        return now[len(known) :]

    def finish(self) -> str:
        """What is left at the end, broken characters as U+FFFD. Mutates."""
        known, now = self._window()
        self._context, self._told = self._told, len(self._ids)
        return now[len(known) :]

    def _broken(self, known: str, now: str) -> str:
        """The beginning of bytes that are no text: only the last three tokens may still become a character. Mutates."""
        for told in range(len(self._ids) - 3, len(self._ids) - 7, -1):
            final = self._decode(self._ids[self._context : told])
            if now.startswith(final):  # else it ends within a character
                self._context, self._told = max(self._told, told - PATIENCE), told
                return final[len(known) :]
        return ""

    def _window(self) -> tuple[str, str]:
        return self._decode(self._ids[self._context : self._told]), self._decode(self._ids[self._context :])


class StopStrings:
    """Finds the stop string that is complete first in a stream, and keeps back text that may become one.

    Of two that end together the longer one counts. So the answer does not depend on how the text comes in pieces.
    Each character of the stream is compared about twice with each stop string, however long these are: a stop string
    remembers how much of it the stream ends with (Knuth, Morris and Pratt, "Fast Pattern Matching in Strings", 1977).
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [_Stop(stop) for stop in dict.fromkeys(stops)]
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show, and whether a stop string was reached; nothing after it counts. Mutates."""
        if not self._stops:
            return text, False
        for end, character in enumerate(text, start=len(self._held) + 1):
            reached = [len(stop.text) for stop in self._stops if stop.push(character)]
            if reached:
                shown, self._held = (self._held + text)[: end - max(reached)], ""
                return shown, True
        text = self._held + text
        cut = len(text) - max(stop.matched for stop in self._stops)
        self._held = text[cut:]
        return text[:cut], False

    def finish(self) -> str:
        """What was kept back and turned out to be no stop string. Mutates."""
        shown, self._held = self._held, ""
        return shown


class _Stop:
    """One stop string. `matched`: how many of its first characters the stream ends with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._borders = [0]  # of the first i + 1 characters: the longest proper beginning that is their end, too
        for character in text[1:]:
            self._borders.append(self._extended(self._borders[-1], character))

    def push(self, character: str) -> bool:
        """Whether the stop string ends with `character`. Not to be called after that. Mutates."""
        self.matched = self._extended(self.matched, character)
        return self.matched == len(self.text)

    def _extended(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._borders[matched - 1]
        return matched + (self.text[matched] == character)
