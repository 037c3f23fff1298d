"""A long document cut into pieces that fit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.errors import DocumentTooLong
from quire.sources import canonicalize, split_headings


def words(text: str) -> int:
    return len(text.split())


HANDBOOK = """\
# Handbook

Welcome aboard.

## Refunds

one two three

## Fees

one two three

## Limits

### Daily

one two three four five

### Monthly

one two three four five
"""


def test_neighbours_are_packed_as_long_as_they_fit() -> None:
    sections = split_headings(HANDBOOK, words, 13)
    assert [(s.title, s.slug) for s in sections] == [
        ("Handbook", "handbook"),
        ("Fees", "fees"),
        ("Limits", "limits"),
        ("Monthly", "monthly"),
    ]
    assert sections[0].text == "# Handbook\n\nWelcome aboard.\n\n## Refunds\n\none two three\n"
    assert [s.title for s in split_headings(HANDBOOK, words, 29)] == ["Handbook", "Limits"]
    assert [s.title for s in split_headings("# A – Z\n\n# B\n\n# C\n", words, 6)] == ["A – Z – B", "C"]


def test_a_section_that_is_cut_does_not_mix_with_its_neighbours() -> None:
    text = "# A\n\n## A1\n\nx x x\n\n## A2\n\nx\n\n# B\n\n## B1\n\nx\n\n## B2\n\nx x x\n"
    assert [s.title for s in split_headings(text, words, 7)] == ["A", "A2", "B", "B2"]


def test_a_document_that_fits_is_one_section() -> None:
    assert [s.text for s in split_headings(HANDBOOK, words, 100)] == [HANDBOOK]
    assert split_headings("", words, 1) == []


def test_headings_in_fences_are_code() -> None:
    text = "# A\n\n```sh\n# not a heading\n## nor this\n```\n\n- ```\n  # nor that\n  ```\n\nB\n=\n\nx\n"
    assert [s.title for s in split_headings(text, words, 18)] == ["A", "B"]
    with pytest.raises(DocumentTooLong, match=r"'A' \(line 1\): expected at most 9 tokens, found \d+"):
        split_headings(text, words, 9)


@pytest.mark.parametrize(
    "rule", ["a | b\n--- | ---", "- item\n  more\n---", "> quote\n---", "one\ntwo\n---", "\n---", "#tag"]
)
def test_what_only_looks_like_a_heading_is_not_cut_at(rule: str) -> None:
    with pytest.raises(DocumentTooLong):
        split_headings(f"# A\n\n{rule}\n\nx x x x x x x x\n", words, 6)


def test_a_piece_that_cannot_be_cut_is_named() -> None:
    with pytest.raises(DocumentTooLong, match=r"'Daily' \(line 15\): expected at most 6 tokens, found 7"):
        split_headings(HANDBOOK, words, 6)
    with pytest.raises(DocumentTooLong, match="'Introduction'"):
        split_headings("no heading at all\n", words, 3)


def test_slugs_are_unique_and_plain() -> None:
    text = "".join(
        f"# {title}\n\nx x x\n\n" for title in ["Ünïted [Fees](u) `a`", "FAQ", "FAQ", "FAQ 2", "質問", "!", ""]
    )
    slugs = [s.slug for s in split_headings(text, words, 7)]
    assert slugs[:4] == ["united-fees-a", "faq", "faq-2", "faq-2-2"]
    assert len(set(slugs)) == len(slugs) == 7
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) for slug in slugs)


def test_slugs_hold_when_another_section_changes() -> None:
    before = {s.slug for s in split_headings(HANDBOOK, words, 14)}
    after = {s.slug for s in split_headings(HANDBOOK.replace("Welcome aboard.", "Hello."), words, 14)}
    assert before == after


blocks = st.sampled_from(
    ["# a", "## b", "### c", "#### d", "b\n==", "c\n--", "x", "x x x", "```\n# f\n```", "~~~", "- i"]
)


@given(st.lists(blocks, max_size=20).map("\n\n".join), st.integers(1, 40))
def test_every_piece_fits_and_no_line_is_lost(text: str, limit: int) -> None:
    document = canonicalize(text)
    try:
        sections = split_headings(document, words, limit)
    except DocumentTooLong:
        return
    assert all(words(s.text) <= limit for s in sections)
    assert "\n".join(s.text for s in sections).split() == document.split()
    assert len({s.slug for s in sections}) == len(sections)
    assert sections == split_headings(document, words, limit)
