"""Texts that cannot fit the model are refused before they are tokenized."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import ContextExceeded

if TYPE_CHECKING:
    from quire.model import TextTokenizer

USUAL = 16  # characters of a token: of a text that has more for each token of the room, a beginning is counted first
SURE = 2  # times the room: a beginning of so many tokens does not fit, whatever comes after it. Fewer the engine counts


class FittingTokenizer:
    """The tokenizer of one question. It stops at the first text with which the question certainly does not fit.

    What it costs to tokenize depends on the room and not on the length of the texts.
    """

    def __init__(self, tokenizer: TextTokenizer, room: int) -> None:
        """`room`: tokens that the question may have."""
        self._tokenizer = tokenizer
        self._room = room
        self._used = 0

    def markers(self, text: str) -> list[int]:
        """As `TextTokenizer.markers`. Raises ContextExceeded. Mutates."""
        return self._counted(self._tokenizer.markers(text))

    def words(self, text: str) -> list[int]:
        """As `TextTokenizer.words`. Raises ContextExceeded. Mutates."""
        longest, beginning = self._tokenizer.longest, text[: USUAL * self._room]
        if longest is not None and len(text) > longest * self._room:
            raise self._exceeded(f"a text of {len(text):,} characters is longer than so many can be")
        if len(beginning) < len(text) and len(self._tokenizer.words(beginning)) > SURE * self._room:
            raise self._exceeded(f"the first {len(beginning):,} characters of a text take more than twice that")
        return self._counted(self._tokenizer.words(text))

    def _counted(self, token_ids: list[int]) -> list[int]:
        self._used += len(token_ids)
        if self._used > SURE * self._room:
            raise self._exceeded("the messages take more than twice that")
        return token_ids

    def _exceeded(self, why: str) -> ContextExceeded:
        return ContextExceeded(
            f"there is room for {self._room:,} tokens of conversation and answer behind the module, and {why}",
            hint="shorten the conversation",
        )
