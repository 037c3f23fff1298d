"""What counts as a right answer, and how many wrong ones a file forgives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.golden import Expectation, GoldenFile, Verdict, f1, judge, settle


@pytest.mark.parametrize(
    ("answer", "expected", "holds"),
    [
        ("You have 30 days.", Expectation("contains", "30 days"), True),
        ("You have 30 Days.", Expectation("contains", "30 days"), False),
        ("You have 30 days.", Expectation("not_contains", "60 days"), True),
        ("60 days", Expectation("not_contains", "60 days"), False),
        ("at Pier  Road 7", Expectation("regex", r"Pier\s+Road"), True),
        ("pier road", Expectation("regex", r"Pier\s+Road"), False),
        ("pier road", Expectation("regex", r"(?i)Pier\s+Road"), True),
        (" No.\n", Expectation("exact", "No."), True),
        ("No", Expectation("exact", "No."), False),
        ("It costs £1,250.50 in all.", Expectation("numeric", 1250.5), True),
        ("It costs £4.50.", Expectation("numeric", 4.5), True),
        ("It costs £4.51.", Expectation("numeric", 4.5), False),
        ("It costs £4.51.", Expectation("numeric", 4.5, 0.02), True),
        ("It is -3 degrees.", Expectation("numeric", -3.0), True),
        ("It is 3 degrees.", Expectation("numeric", -3.0), False),
        ("It is 21.6 degrees.", Expectation("numeric", 21.5, 0.1), True),
        ("It is 21.4 degrees.", Expectation("numeric", 21.5, 0.1), True),
        ("It is 21.61 degrees.", Expectation("numeric", 21.5, 0.1), False),
        ("0.3", Expectation("numeric", 0.2, 0.1), True),
        ("0.30000000000000001", Expectation("numeric", 0.2, 0.1), False),
        ("-0.3", Expectation("numeric", -0.2, 0.1), True),
        ("0.000000001", Expectation("numeric", 0.0, 1e-9), True),
        ("0.0000000011", Expectation("numeric", 0.0, 1e-9), False),
        ("4.500000001", Expectation("numeric", 4.5), False),
        ("12.5%", Expectation("numeric", 12.0, 0.5), True),
        ("1,250.60", Expectation("numeric", 1250.5, 0.1), True),
        ("12345678901234567890", Expectation("numeric", 12345678901234567890), True),
        ("9" * 5000, Expectation("numeric", 9.0), False),
        ("CO2 is a gas", Expectation("numeric", 2.0), False),
        ("1 or 2 or 3", Expectation("numeric", 2.0), True),
        ("open Tuesday to Saturday", Expectation("f1", "Tuesday to Saturday", 0.8), True),
        ("closed on Mondays", Expectation("f1", "Tuesday to Saturday", 0.2), False),
    ],
)
def test_expectations(answer: str, expected: Expectation, holds: bool) -> None:
    unmet = judge(answer, [expected])
    assert unmet == (() if holds else (str(expected),))


def test_an_expression_of_a_suite_of_before_that_is_refused_now_does_not_hold() -> None:
    (unmet,) = judge("Pier Road", [Expectation("regex", "Pier(?= )")])
    assert unmet == "matches 'Pier(?= )', which cannot be tried: it looks ahead or behind: (?="


def test_all_expectations_must_hold_and_those_that_do_not_are_named() -> None:
    unmet = judge("30 days", [Expectation("contains", "30"), Expectation("contains", "21"), Expectation("numeric", 5)])
    assert unmet == ("contains '21'", "a number 5")


@given(st.text(), st.text())
def test_overlap_is_a_share_and_the_same_from_both_sides(one: str, other: str) -> None:
    assert 0 <= f1(one, other) == f1(other, one) <= 1
    assert f1(one, one) == 1


def test_overlap_is_that_of_the_formula() -> None:
    assert f1("the cat sat", "the cat ran away") == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))


def failure(*tags: str) -> Verdict:
    return Verdict("f", "q", "a", ("x",), tags)


RIGHT = Verdict("f", "q", "a")


@pytest.mark.parametrize(
    ("allowed", "by_tag", "verdicts", "counted"),
    [
        (0, (), [RIGHT, RIGHT], 0),
        (0, (), [RIGHT, failure()], 1),
        (1, (), [failure(), failure()], 1),
        (0, (("hard", 1),), [failure("hard"), failure("hard"), failure()], 2),
        (1, (("hard", 1),), [failure("hard"), failure("hard"), failure()], 1),
        (0, (("hard", 1), ("slow", 1)), [failure("hard", "slow"), failure("hard", "slow")], 0),
    ],
)
def test_failures_are_forgiven_by_tag_first_and_then_by_file(
    allowed: int, by_tag: tuple[tuple[str, int], ...], verdicts: list[Verdict], counted: int
) -> None:
    settled = settle(GoldenFile("f", (), allowed, by_tag), verdicts)
    assert [one.passed for one in settled] == [one.passed for one in verdicts]
    assert sum(not one.passed and not one.forgiven for one in settled) == counted
    assert not any(one.forgiven for one in settled if one.passed)
