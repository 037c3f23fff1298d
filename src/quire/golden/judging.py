"""An answer against what was expected, and the failures of a file against those it allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from quire.errors import PatternRefused
from quire.golden.overlap import f1
from quire.golden.runs import Verdict
from quire.golden.suite import Expectation, GoldenFile
from quire.patterns import compiled

# 1,250.50 and -3; a digit or letter before it would make it part of a word, such as the 2 of CO2.
_NUMBER = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


def judge(answer: str, expected: Sequence[Expectation]) -> tuple[str, ...]:
    """What of `expected` does not hold of `answer`, in words."""
    unmet = []
    for one in expected:
        try:
            if not holds(answer, one):
                unmet.append(str(one))
        except PatternRefused as error:
            unmet.append(f"{one}, which cannot be tried: {error}")
    return tuple(unmet)


def holds(answer: str, expected: Expectation) -> bool:
    """Whether it does. Raises PatternRefused for an expression that a suite of before has, and that is now refused."""
    value = expected.value
    match expected.kind:
        case "contains":
            return str(value) in answer
        case "not_contains":
            return str(value) not in answer
        case "regex":
            return compiled(str(value)).matches(answer)
        case "exact":
            return answer.strip() == str(value).strip()
        case "numeric":
            # In decimals, as both were written: in binary 21.6 is more than 0.1 away from 21.5.
            middle, bound = Decimal(str(value)), Decimal(str(expected.bound))
            return any(
                middle - bound <= number <= middle + bound
                or float(number) == value  # of more digits than a float keeps: the suite's was rounded, too
                for number in numbers(answer)
            )
        case "f1":
            return f1(str(value), answer) >= expected.bound


def numbers(text: str) -> list[Decimal]:
    """The numbers in `text`, as English writes them: 1,250.50."""
    return [Decimal(found.replace(",", "")) for found in _NUMBER.findall(text)]


def settle(file: GoldenFile, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """`verdicts` of all questions of `file`, those of the failures forgiven that it allows: first by tag, in order."""
    left, by_tag = file.allowed, dict(file.allowed_by_tag)
    settled = []
    for one in verdicts:
        forgiven = False
        if not one.passed:
            tag = next((tag for tag in one.tags if by_tag.get(tag)), None)
            if tag is not None:
                by_tag[tag] -= 1
                forgiven = True
            elif left:
                left -= 1
                forgiven = True
        settled.append(replace(one, forgiven=forgiven))
    return settled
