"""Expressions of people mean what they mean to `re`, and never take longer than their text is long."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.errors import InvalidSetting, PatternRefused
from quire.patterns import Expression, ExpressionSet, check_notation, check_pattern, encode, fold
from quire.patterns.charset import LAST_CASED

from .expressions import EXPRESSIONS, TEXTS


@settings(max_examples=1000, deadline=None)
@given(pattern=EXPRESSIONS, text=TEXTS, ignore_case=st.booleans())
def test_the_same_texts_match_as_with_re(pattern: str, text: str, ignore_case: bool) -> None:
    found = re.search(pattern, text, re.IGNORECASE if ignore_case else 0)
    assert Expression(pattern, ignore_case=ignore_case).matches(text) == (found is not None)


@settings(max_examples=200, deadline=None)
@given(patterns=st.lists(EXPRESSIONS, max_size=5), text=TEXTS)
def test_together_match_those_that_match_alone(patterns: list[str], text: str) -> None:
    some = [Expression(pattern, ignore_case=True) for pattern in patterns]
    together = sorted(ExpressionSet(some).match(encode(fold(text))))
    assert together == [number for number, one in enumerate(some) if one.matches(text)]


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        (r"\bвозврат(ы|а)?\b", ["Мой ВОЗВРАТ?", "возвраты"], ["невозврат", "возвратный"]),
        (r"\bcaf\b", ["Caf!"], ["café"]),
        (r"\Bfund", ["refund"], ["fund", "é fund"]),
        (r"\d{2}", ["٣٣", "12"], ["٣", "½½"]),
        (r"straße", ["STRAßE", "STRAẞE"], ["strasse"]),
        (r"(?i)istanbul", ["İSTANBUL", "ıstanbul"], ["stanbul"]),
        (r"^a$", ["a", "a\n"], ["a\nb", "a\n\n"]),
        (r"(?m)^a$", ["b\na\nc"], ["ba"]),
    ],
)
def test_words_digits_and_ends_are_those_of_every_script(pattern: str, matches: list[str], others: list[str]) -> None:
    one = Expression(pattern, ignore_case=True)
    assert [one.matches(text) for text in (*matches, *others)] == [True] * len(matches) + [False] * len(others)
    for text in (*matches, *others):
        assert bool(re.search(pattern, text, re.IGNORECASE)) == one.matches(text)


REFUSED = [
    ("(", "missing \\)", "correct"),
    ("(" * 5000, ".", "correct"),
    ("a{4294967296}", ".", "correct"),
    (r"(a)\1", "refers back", "write out"),
    (r"(?P<n>a)(?P=n)", "refers back", "write out"),
    ("a(?=b)", "looks ahead", "several expressions"),
    ("a(?!b)", "looks ahead", "several expressions"),
    ("(?<=a)b", "behind", "several expressions"),
    ("(?<!a)b", "behind", r"\\b"),
    ("(?>a)", "atomic", r"\(\?:"),
    ("(a)?(?(1)b|c)", "depends on a group", "alternatives"),
    ("a++", "possessive", r"write \+"),
    ("a{2,3}+", "possessive", r"write \{2,3\}"),
    ("a{1001}", "1,000", r"\+ or \*"),
    ("(?:a{50}){50}", "1,000", r"\+ or \*"),
    (r"(?:(?:\w{30}\s){30}){2}|[^é]{999}", "too large|1,000", "."),
    ("(?x)a b", "flag x", "white space"),
    (r"(?a)\w", "flag a", "0-9"),
    ("a(?i:b)", "flag i", "beginning"),
]


@pytest.mark.parametrize(("pattern", "reason", "hint"), REFUSED)
def test_what_cannot_be_linear_is_refused_with_what_to_write(pattern: str, reason: str, hint: str) -> None:
    with pytest.raises(InvalidSetting, match=f"patterns of x: .*(?:{reason})") as refused:
        check_pattern(pattern, "patterns of x")
    assert re.search(hint, refused.value.hint)


def test_the_notation_is_checked_apart() -> None:
    check_notation("a(?=b)", "x")
    with pytest.raises(InvalidSetting, match="x: '\\('"):
        check_notation("(", "x")


def test_an_expression_that_would_take_more_memory_than_it_may_is_refused() -> None:
    with pytest.raises(PatternRefused, match="too large"):
        Expression("|".join(f"{number:x}.{{150}}" for number in range(40)), ignore_case=True)


HOSTILE = [
    r".*refund.*order.*number.*\d{6}",
    r"(a+)+$",
    r"(\w+\s?)*!",
    r"(a|aa)+$",
    r"(.*)*=",
    r"(?:(?:x+)y?)*z",
    r"(a{1,30}b?){1,9}z",
    r"\s+$",
    r"(?:.*a){20}z",
    r"[^\W\d_]+@\w+\.\w+",
    "é*é*é*é*€",
]


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("piece", ["a", "refund order number ", " \t", "é"])
def test_four_times_the_text_takes_about_four_times_as_long(pattern: str, piece: str) -> None:
    """Quadratic time would be 16 times, and exponential time no end."""
    one = Expression(pattern, ignore_case=True)

    def taken(length: int) -> float:
        text = (piece * length)[:length]
        return min(_seconds(one, text) for _ in range(3))

    assert taken(80_000) < 11 * taken(20_000) + 0.01


def _seconds(one: Expression, text: str) -> float:
    began = time.thread_time()
    one.matches(text)
    return time.thread_time() - began


def test_none_is_lost_where_one_filter_cannot_hold_all() -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices("abcdefghij", k=900)) for _ in range(180)]
    alone = "(?:a|b|c|d)(?:e|f|g|h)" + "x" * 15000  # 16 texts to look for, too long for one filter
    every = ExpressionSet([Expression(text, ignore_case=True) for text in (*texts, alone)])
    assert every.match(encode(f"be{'x' * 15000}")) == [len(texts)]
    assert [every.match(encode(text)) for text in texts[::9]] == [[number] for number in range(0, len(texts), 9)]


def test_folding_is_that_of_re() -> None:
    """What folds alike is what `re` takes for one, but for ΐ, ΰ, ﬅ and their doubles; no letter stops being one."""
    by_fold: dict[str, set[str]] = {}
    for character in map(chr, range(LAST_CASED + 1)):
        by_fold.setdefault(fold(character), set()).add(character)
    groups = [group for group in by_fold.values() if len(group) > 1]
    assert len(groups) > 1300
    cased = "".join(sorted(character for group in groups for character in group)) + "ΐΐΰΰﬅﬆ0٣_中"
    for group in groups:
        assert len({(character.isalnum(), character.isdecimal()) for character in group}) == 1, group
        for one in group:
            assert set(re.findall(one, cased, re.IGNORECASE)) == group
