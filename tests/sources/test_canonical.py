"""One spelling for every text that reads the same."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.errors import SourceNotText
from quire.sources import canonicalize

lines = st.sampled_from(["```", "~~~", "```py", "````  ", "- ```", "", "  ", "\t", "a  ", "# h", "> q", "é", "e\u0301"])
texts = st.one_of(
    st.text(),
    st.lists(lines).map("\n".join),
    st.lists(lines).map("\r\n".join),
    st.text(alphabet="\n\r\t \u00a0\u2028\u0085\x0b\x0c\ufeff`~a\u0301\u1fef"),
)


@given(texts)
def test_canonical_text_stays_as_it_is_and_is_the_same_every_time(text: str) -> None:
    try:
        once = canonicalize(text)
    except SourceNotText:
        return
    assert canonicalize(text) == once
    assert canonicalize(once) == once
    assert once == unicodedata.normalize("NFC", once)
    assert once == "" or (once.endswith("\n") and once.strip() and not once.startswith("\n"))
    assert not set(once) & set("\r\v\f\x85\u2028\u2029\ufeff")
    once.encode("utf-8")


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("a\r\nb\rc\u2028d\fe", "a\nb\nc\nd\ne\n"),
        ("\ufeffa\ufeffb", "ab\n"),
        ("e\u0301", "é\n"),
        ("a  \nb\t\n\u3000\nc", "a\nb\n\nc\n"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb\n"),
        ("\n \n  a\n\n\n", "  a\n"),
        (" \n\t\n", ""),
        ("", ""),
    ],
)
def test_what_reads_the_same_is_spelt_the_same(written: str, canonical: str) -> None:
    assert canonicalize(written) == canonical


@pytest.mark.parametrize("indent", ["", "    ", "- ", "1. "])
@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_white_space_inside_code_fences_is_kept(indent: str, fence: str) -> None:
    code = "x  \n\n\n\n\n\ty "
    assert (
        canonicalize(f"{indent}{fence}diff\n{code}\n{fence}\nend  ") == f"{indent}{fence}diff\n{code}\n{fence}\nend\n"
    )


@pytest.mark.parametrize("character", ["\x00", "\x08", "\x1b", "\x7f", "\x9b", "\ud800"])
def test_a_character_nobody_sees_is_refused_with_its_place(character: str) -> None:
    with pytest.raises(SourceNotText, match=rf"notes.md: .*U\+{ord(character):04X} at line 2, column 3"):
        canonicalize(f"one\nab{character}", "notes.md")
