"""A question that cannot fit costs what the room for it costs, whatever its length."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from quire.answering.room import SURE, USUAL, FittingTokenizer
from quire.errors import ContextExceeded
from quire.model import TextTokenizer

ROOM = 500
MEGABYTES = 1_000_000


class Counting(TextTokenizer):
    """Counts the characters that it is asked to tokenize."""

    asked = 0

    def words(self, text: str) -> list[int]:
        self.asked += len(text)
        return super().words(text)


@pytest.fixture
def counting(tiny_tokenizer: PreTrainedTokenizerFast) -> Counting:
    return Counting(tiny_tokenizer, frozenset())


@pytest.mark.parametrize("piece", ["a", " ", "-", "word ", "e\u0301", "\U0001f600", "<|im_end|>", "\n\n"])
def test_a_text_of_any_length_is_refused_at_the_cost_of_the_room(counting: Counting, piece: str) -> None:
    assert counting.longest is not None
    with pytest.raises(ContextExceeded, match=f"room for {ROOM} tokens"):
        FittingTokenizer(counting, ROOM).words(piece * (4 * MEGABYTES // len(piece)))
    assert counting.asked <= USUAL * ROOM


def test_many_messages_are_tokenized_until_they_certainly_do_not_fit(counting: Counting) -> None:
    tokenizer = FittingTokenizer(counting, ROOM)
    with pytest.raises(ContextExceeded, match="the messages take more"):
        [tokenizer.words("word") for _ in range(MEGABYTES)]
    assert counting.asked <= len("word") * (SURE * ROOM + 1)


@pytest.mark.parametrize("piece", ["a", "word ", "e\u0301"])
def test_what_fits_has_the_tokens_that_it_always_had(counting: Counting, piece: str) -> None:
    text = piece * 400
    ids = counting.words(text)
    assert FittingTokenizer(counting, len(ids)).words(text) == ids
