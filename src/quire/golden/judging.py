"""An answer against what was expected, and the failures of a file against those it allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from quire.golden.overlap import f1
from quire.golden.runs import Verdict
from quire.golden.suite import Expectation, GoldenFile

# 1,250.50 and -3; a digit or letter before it would make it part of a word, such as the 2 of CO2.
_NUMBER = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
EXACT = 1e-9  # of a number: what it takes to write it in binary


def judge(answer: str, expected: Sequence[Expectation]) -> tuple[str, ...]:
    """What of `expected` does not hold of `answer`, in words."""
    return tuple(str(one) for one in expected if not holds(answer, one))


def holds(answer: str, expected: Expectation) -> bool:
    """Whether it does."""
    value = expected.value
    match expected.kind:
        case "contains":
            return str(value) in answer
        case "not_contains":
            return str(value) not in answer
        case "regex":
            return re.search(str(value), answer) is not None
        case "exact":
            return answer.strip() == str(value).strip()
        case "numeric":
            tolerance = max(expected.bound, EXACT)
            return any(abs(number - float(value)) <= tolerance for number in numbers(answer))
        case "f1":
            return f1(str(value), answer) >= expected.bound


def numbers(text: str) -> list[float]:
    """The numbers in `text`, as English writes them: 1,250.50."""
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]


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
