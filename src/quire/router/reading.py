"""A question as the stages look at it: read once, whatever the number of partitions."""

from __future__ import annotations

import re
from functools import cached_property

from quire.patterns import fold

GRAMS = (6, 3)  # characters: long ones tell more, short ones are in more literals
HALF = 768  # characters
DIGIT = re.compile(r"\d")
WORD = re.compile(r"\w+")


class Reading:
    """The text of a question, folded, in words and in grams.

    Of a longer text the first and the last 768 characters count: an expression over all of four megabytes could take
    any time, and what is asked stands at one of the ends.
    """

    def __init__(self, question: str) -> None:
        if len(question) > 2 * HALF:
            question = f"{question[:HALF]}\n{question[-HALF:]}"
        self.text = question
        self.folded = fold(question)

    @cached_property
    def tokens(self) -> list[str]:
        """Folded words in their order."""
        return WORD.findall(self.folded)

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(self.tokens)

    @cached_property
    def grams(self) -> set[str]:
        """Every folded substring of the sizes in GRAMS."""
        text = self.folded
        return {text[i : i + size] for size in GRAMS for i in range(len(text) - size + 1)}

    @cached_property
    def has_digit(self) -> bool:
        return DIGIT.search(self.text) is not None

    def has_word(self, folded: str) -> bool:
        """Whether the folded text is there with no letter, digit or underscore right before or after it."""
        start = self.folded.find(folded)
        while start >= 0:
            end = start + len(folded)
            if not self._is_word(start - 1) and not self._is_word(end):
                return True
            start = self.folded.find(folded, start + 1)
        return False

    def _is_word(self, at: int) -> bool:
        return 0 <= at < len(self.folded) and (self.folded[at].isalnum() or self.folded[at] == "_")
