"""Text comes out in pieces that join to the text of the whole, and ends where a stop string begins."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from quire.engine.refusing import LONGEST_STOP, MOST_STOPS
from quire.engine.text import PATIENCE, Detokenizer, StopStrings
from quire.model import LoadedModel, TextTokenizer

TEXTS = ["Straße", "日本語", "👩‍🚀🏳️‍🌈", "a b  c", "\n\n", "é", "\u200b", "\ufffd", " ", "ok"]

# GPT-2's letters for bytes: printable ones stand for themselves, the others follow from U+0100 on.
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTE_LETTERS = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(0x100 + i) for i, byte in enumerate(OTHERS)}


def pieces_of(tokenizer: TextTokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer.decode)
    return [*(detokenizer.push(token) for token in ids), detokenizer.finish()]


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 599), max_size=40))
def test_pieces_of_any_byte_level_tokens_join_to_the_whole(tiny_model: LoadedModel, ids: list[int]) -> None:
    """Random ids are mostly broken UTF-8, with control tokens between."""
    assert "".join(pieces_of(tiny_model.tokenizer, ids)) == tiny_model.tokenizer.decode(ids)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.sampled_from("éあ👩a").map(str.encode) | st.binary(min_size=1, max_size=4), max_size=60))
def test_pieces_of_single_bytes_join_to_the_whole(parts: list[bytes]) -> None:
    """Whole characters and broken ones, a token for each byte."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: i for i, letter in enumerate(sorted(letters))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    single = TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer), frozenset())
    ids = [vocabulary[BYTE_LETTERS[byte]] for part in parts for byte in part]
    assert "".join(pieces_of(single, ids)) == b"".join(parts).decode("utf-8", "replace")


def test_bytes_that_never_become_text_cost_the_same_for_each_token(tiny_model: LoadedModel) -> None:
    tokenizer, decoded = tiny_model.tokenizer, 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return tokenizer.decode(ids)

    continuation = tokenizer.words("é")[-1:]
    assert tokenizer.decode(continuation) == "\ufffd"
    detokenizer = Detokenizer(decode)
    text = "".join(detokenizer.push(token) for token in continuation * 4000) + detokenizer.finish()
    assert text == "\ufffd" * 4000
    assert decoded < 4000 * 16 * PATIENCE


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.sampled_from(TEXTS) | st.text(max_size=5), max_size=8))
def test_no_piece_of_a_whole_text_shows_half_a_character(tiny_model: LoadedModel, parts: list[str]) -> None:
    text = "".join(parts)
    ids = tiny_model.tokenizer.words(text)
    pieces = pieces_of(tiny_model.tokenizer, ids)
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@pytest.fixture(scope="module")
def metaspace() -> TextTokenizer:
    """As Llama 2's: spaces are marked, the first one is dropped, unknown characters fall back to their bytes."""
    words = ["▁the", "▁keeper", "▁", "s", "▁a", "é", "the", "keeper", "日"]
    vocabulary = {"<unk>": 0, "</s>": 1} | {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    vocabulary |= {word: len(vocabulary) + i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    return TextTokenizer(fast, frozenset({1}))


BYTES = 2  # the token of byte 0
WORDS = BYTES + 256
wholes = st.lists(
    st.integers(WORDS, WORDS + 8).map(lambda i: [i])
    | st.sampled_from(TEXTS).map(lambda text: [2 + byte for byte in text.encode()]),
    max_size=12,
).map(lambda parts: [token for part in parts for token in part])


@settings(max_examples=200, deadline=None)
@given(ids=wholes)
def test_pieces_of_metaspace_tokens_join_to_the_whole(metaspace: TextTokenizer, ids: list[int]) -> None:
    assert "".join(pieces_of(metaspace, ids)) == metaspace.decode(ids)


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, WORDS + 8), max_size=20))
@example(ids=[BYTES, BYTES + ord(" "), BYTES + 0x80])
def test_broken_bytes_of_metaspace_tokens_lose_nothing_around_them(metaspace: TextTokenizer, ids: list[int]) -> None:
    """That decoder turns a run of bytes with one broken character into broken characters as a whole. What was shown
    before the run broke stays shown, and a space among it, which the decoder drops where a text begins, may come again
    as a broken character; what is no byte is the same in both.
    """
    joined, whole = "".join(pieces_of(metaspace, ids)), metaspace.decode(ids)
    assert len(joined) <= len(whole) + ids.count(BYTES + ord(" "))
    if "\ufffd" not in whole:
        assert joined == whole


def test_a_character_in_parts_appears_when_it_is_complete(tiny_model: LoadedModel) -> None:
    ids = tiny_model.tokenizer.words("👩")
    assert len(ids) == 4
    assert pieces_of(tiny_model.tokenizer, ids) == ["", "", "", "👩", ""]
    assert pieces_of(tiny_model.tokenizer, ids[:3])[-1] == "\ufffd"


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({c % (len(text) + 1) for c in cuts} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(places)] or [""]


@settings(max_examples=400, deadline=None)
@given(
    text=st.text("ab\n", max_size=30),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 100), max_size=10),
)
def test_stop_strings_end_the_text_where_they_are_found_in_the_whole(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    """However the text is cut: the stop string that is complete first, the longest of several that end there."""
    found = sorted((text.find(s) + len(s), text.find(s)) for s in stops if s in text)
    expected = text[: found[0][1]] if found else text
    stream, shown, stopped = StopStrings(stops), "", False
    for piece in split(text, cuts):
        visible, stopped = stream.push(piece)
        shown += visible
        assert expected.startswith(shown), "nothing is shown that has to be taken back"
        if stopped:
            break
    assert shown + ("" if stopped else stream.finish()) == expected
    assert stopped == bool(found)


def test_text_is_kept_back_only_while_it_may_become_a_stop_string() -> None:
    stream = StopStrings(["\nQuestion:"])
    assert stream.push("yes\n") == ("yes", False)
    assert stream.push("Quest") == ("", False)
    assert stream.push(" is over") == ("\nQuest is over", False)
    assert stream.push("\nQuestion: next") == ("", True)


def test_long_stop_strings_cost_no_more_than_short_ones() -> None:
    """In text that always looks as if a stop string had begun."""

    def seconds(length: int) -> float:
        stream = StopStrings(["a" * (length - 1) + end for end in "bcde"[:MOST_STOPS]])
        began = time.thread_time()
        for _ in range(20_000):
            stream.push("aaaa")
        return time.thread_time() - began

    assert seconds(LONGEST_STOP) < 10 * seconds(8)
