"""Words are never markers, whoever writes them and however many threads ask."""

from __future__ import annotations

import copy
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from quire.model import TextTokenizer
from quire.tokenizer import LONG, Turns

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<think>", "</think>", "[TOOL]"]  # no special tokens for the library, and yet markers to the model
hostile = st.lists(st.sampled_from([*SPECIAL, *ADDED, "<", "|", ">", "im_start", " ", "a", "日本", "\n"]), max_size=12)


@pytest.fixture(scope="module")
def library(tiny_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ADDED])
    tokenizer.add_tokens([AddedToken("    ", special=False), AddedToken("lighthousekeeper", special=False)])
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(library: PreTrainedTokenizerFast) -> TextTokenizer:
    return TextTokenizer(library, frozenset({2}))


@settings(max_examples=200, deadline=None)
@given(pieces=hostile)
def test_no_text_becomes_a_control_token(
    tokenizer: TextTokenizer, library: PreTrainedTokenizerFast, pieces: list[str]
) -> None:
    text = "".join(pieces)
    controls = set(library.convert_tokens_to_ids([*SPECIAL, *ADDED]))
    ids = tokenizer.words(text)
    assert not controls & set(ids)
    assert tokenizer.decode(ids) == text


def test_markers_are_control_tokens(tokenizer: TextTokenizer, library: PreTrainedTokenizerFast) -> None:
    assert tokenizer.markers("<|im_start|><think>") == library.convert_tokens_to_ids(["<|im_start|>", "<think>"])
    assert tokenizer.decode(tokenizer.markers("<|im_start|>user")) == "user"
    assert tokenizer.piece(tokenizer.markers("<|im_end|>")[0]) == "<|im_end|>"


def test_added_words_and_spaces_are_words(tokenizer: TextTokenizer, library: PreTrainedTokenizerFast) -> None:
    for word in ("    ", "lighthousekeeper"):
        assert tokenizer.words(word) == [library.convert_tokens_to_ids(word)]


def test_no_text_is_no_tokens(tokenizer: TextTokenizer) -> None:
    assert tokenizer.words("") == tokenizer.markers("") == []


def test_threads_that_ask_for_words_and_for_markers_do_not_change_each_others_answers(
    tokenizer: TextTokenizer,
) -> None:
    text = "<|im_start|>user " * 20
    expected = {True: tokenizer.words(text), False: tokenizer.markers(text)}
    wrong: list[bool] = []

    def ask(literal: bool) -> None:
        encode = tokenizer.words if literal else tokenizer.markers
        for _ in range(150):
            if encode(text) != expected[literal]:
                wrong.append(literal)

    threads = [threading.Thread(target=ask, args=(i % 2 == 0,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.text(max_size=6) | st.sampled_from(["    ", "lighthousekeeper", "a", "e\u0301"]), max_size=40))
@pytest.mark.parametrize("normalizer", [None, normalizers.NFC(), normalizers.Lowercase()], ids=["none", "NFC", "lower"])
def test_no_token_stands_for_more_characters_than_the_longest(
    library: PreTrainedTokenizerFast, normalizer: normalizers.Normalizer | None, parts: list[str]
) -> None:
    changed = copy.deepcopy(library)
    changed.backend_tokenizer.normalizer = normalizer
    tokenizer, text = TextTokenizer(changed, frozenset()), "".join(parts)
    assert tokenizer.longest is not None
    assert len(text) <= tokenizer.longest * len(tokenizer.words(text))


@pytest.mark.parametrize(
    ("model", "normalizer", "pre_tokenizer"),
    [
        (models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"), None, pre_tokenizers.ByteLevel()),
        (models.BPE({"a": 0, "b": 1}, []), None, pre_tokenizers.Metaspace()),
        (models.BPE({"a": 0, "b": 1}, []), None, pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])),
        (models.BPE({"a": 0, "b": 1}, []), normalizers.Strip(), pre_tokenizers.ByteLevel()),
        (models.BPE({"a": 0, "b": 1}, []), normalizers.Replace("ab", "a"), pre_tokenizers.ByteLevel()),
    ],
)
def test_a_tokenizer_that_drops_characters_has_no_longest_token(
    model: models.Model, normalizer: normalizers.Normalizer | None, pre_tokenizer: pre_tokenizers.PreTokenizer
) -> None:
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        made.normalizer = normalizer
    assert TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=made), frozenset()).longest is None


def test_names_that_only_normalization_makes_are_cut_in_a_number_of_steps_that_grows_slowly(
    library: PreTrainedTokenizerFast,
) -> None:
    changed = copy.deepcopy(library)
    changed.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer, asked = TextTokenizer(changed, frozenset()), 0

    class Counting(TextTokenizer):
        def words(self, text: str) -> list[int]:
            nonlocal asked
            asked += len(text)
            return super().words(text)

    text = "a" * 4000 + "\uff1cthink\uff1e" + "a" * 4000  # <think> in wide characters
    ids = Counting(changed, frozenset()).words(text)
    assert not set(library.convert_tokens_to_ids(ADDED)) & set(ids)
    assert tokenizer.decode(ids) == "a" * 4000 + "<think>" + "a" * 4000
    assert asked < 20 * len(text)


def test_calls_of_one_kind_run_together_and_calls_of_two_kinds_do_not() -> None:
    turns, inside = Turns(), threading.Event()

    def enter(kind: str) -> None:
        with turns.of(kind):
            inside.set()

    with turns.of("words"):
        same = threading.Thread(target=enter, args=("words",))
        same.start()
        same.join(60)
        assert inside.is_set()
        inside.clear()
        other = threading.Thread(target=enter, args=("markers",))
        other.start()
        assert not inside.wait(0.05)
    other.join(60)
    assert inside.is_set()


def test_a_long_text_has_the_same_tokens_as_in_one_call_of_the_library(
    tokenizer: TextTokenizer, library: PreTrainedTokenizerFast
) -> None:
    text = "The keeper lit the lamp. " * (LONG // 25 + 1)
    assert tokenizer.words(text) == library(text, add_special_tokens=False)["input_ids"]
