"""Words are never markers, whoever writes them and however many threads ask."""

from __future__ import annotations

import copy
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from quire.model import TextTokenizer

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
