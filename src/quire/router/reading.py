"""A question as the stages look at it: read once, whatever the number of partitions."""

from __future__ import annotations

import re
from functools import cached_property

from quire.patterns import encode, fold

HALF = 768  # characters
WORD = re.compile(r"\w+")


class Reading:
    """The text of a question, folded, in words and as expressions read it.

    Of a longer text the first and the last 768 characters count: what is asked stands at one of the ends, and so
    routing has a bound for each rule.
    """

    def __init__(self, question: str) -> None:
        if len(question) > 2 * HALF:
            question = f"{question[:HALF]}\n{question[-HALF:]}"
        self.folded = fold(question)

    @cached_property
    def tokens(self) -> list[str]:
        """Folded words in their order."""
        return WORD.findall(self.folded)

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(self.tokens)

    @cached_property
    def encoded(self) -> bytes:
        """For `ExpressionSet.match`."""
        return encode(self.folded)

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
