"""The alphabet in which RE2 reads texts and expressions.

RE2 knows word boundaries of ASCII only. So every other character that `re` counts among words is written in ASCII
letters, which RE2 counts among words too: a first one that says what it is, and five more for its number. These are
capitals, and every capital in a text is written so itself. The first letter is never one of the five: an expression
for whole characters cannot match from within one. All other characters stand for themselves.

    café №7  ->  cafYAAAOJ №7          Ж7  ->  YAAEBG7
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

LETTER, DIGIT = "Y", "Z"  # what is no digit, and what is
FIRST, LAST, LENGTH = "A", "P", 5  # of a number, in base 16
CODED = re.compile(r"(?:[A-Z]|[^\W\x00-\x7f])+")

Intervals = list[tuple[int, int]]  # of code points, both ends included
MAX = 0x10FFFF
PLAIN: Intervals = [(0, 0x40), (0x5B, MAX)]  # what may stand for itself
WRITTEN: Intervals = [(0x41, 0x5A), (0x80, 16**LENGTH - 1)]  # what may be written in letters: no word is beyond


def encode(text: str) -> bytes:
    """`text` as RE2 reads it, six bytes at most for each of its characters."""
    return CODED.sub(lambda found: "".join(map(code, found[0])), text).encode("utf-8", "surrogatepass")


@lru_cache(maxsize=4096)
def code(character: str) -> str:
    """The letters for a capital, or a character of words outside of ASCII."""
    return (DIGIT if character.isdecimal() else LETTER) + _number(ord(character))


def complement(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """All other code points, in order and merged."""
    found: Intervals = []
    at = 0
    for low, high in sorted(intervals):
        if low > at:
            found.append((at, low - 1))
        at = max(at, high + 1)
    return [*found, (at, MAX)] if at <= MAX else found


def common(some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> Intervals:
    """The code points in both."""
    return complement([*complement(some), *complement(others)])


def expression_of(plain: Intervals, letters: Intervals, digits: Intervals) -> str:
    """An expression of RE2 for one character: one of `plain` that stands for itself, or one of the others, written."""
    alternatives = []
    if itself := common(plain, PLAIN):
        ranges = "".join(rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in itself)
        alternatives.append(f"[{ranges}]")
    for first, intervals in ((LETTER, letters), (DIGIT, digits)):
        written = common(intervals, WRITTEN)
        if written == WRITTEN:
            written = [(0, 16**LENGTH - 1)]  # the same, in one
        for low, high in written:
            alternatives += [first + rest for rest in _between(_number(low), _number(high))]
    return f"(?:{'|'.join(alternatives)})" if alternatives else r"[^\x00-\x{10FFFF}]"


def _number(point: int) -> str:
    return f"{point:0{LENGTH}x}".translate(_DIGITS)


ANY = f"[{FIRST}-{LAST}]"
_DIGITS = str.maketrans("0123456789abcdef", "ABCDEFGHIJKLMNOP")


def _between(low: str, high: str) -> Iterator[str]:
    """Expressions for the numbers from `low` to `high`."""
    first, last, rest = low[:1], high[:1], len(low) - 1
    if low == FIRST * len(low) and high == LAST * len(high):
        yield ANY * len(low)  # written out: RE2 multiplies inner and outer repetition
    elif first == last:
        yield from (first + more for more in _between(low[1:], high[1:]))
    else:
        if low[1:] != FIRST * rest:
            yield from (first + more for more in _between(low[1:], LAST * rest))
            first = chr(ord(first) + 1)
        end = ""
        if high[1:] != LAST * rest:
            end, last = last, chr(ord(last) - 1)
        if first <= last:
            yield f"[{first}-{last}]" + ANY * rest
        if end:
            yield from (end + more for more in _between(FIRST * rest, high[1:]))
