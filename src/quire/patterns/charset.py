r"""Sets of characters as `re` writes them, such as ``\w`` and ``[^a-z\d]``, as expressions of RE2."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from quire.patterns.alphabet import CODED, MAX, Intervals, code, complement, expression_of
from quire.patterns.folding import fold

Set = tuple[Intervals, Intervals, Intervals]  # of what stands for itself, of written letters, of written digits
ALL: Intervals = [(0, MAX)]
SPACES: Intervals = [(0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)]
SPACES += [(0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)]
LAST_CASED = 0x1E943  # no character beyond folds to another


def _others(some: Set) -> Set:
    plain, letters, digits = map(complement, some)
    return plain, letters, digits


CLASSES: dict[str, Set] = {
    "d": ([(0x30, 0x39)], [], ALL),
    "w": ([(0x30, 0x39), (0x5F, 0x5F), (0x61, 0x7A)], ALL, ALL),
    "s": (SPACES, [], []),
}
CLASSES |= {name.upper(): _others(some) for name, some in CLASSES.items()}
ITEM = re.compile(r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|[0-7]{1,3}|.)|.", re.DOTALL)
CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def one_of(name: str) -> str:
    r"""The expression of a class such as ``\w``, by its letter."""
    return expression_of(*CLASSES[name])


def none_of(characters: str = "") -> str:
    """The expression of every character but these of ASCII, which are no capitals."""
    return expression_of(complement((ord(c), ord(c)) for c in characters), ALL, ALL)


def one(character: str) -> str:
    """The expression of one character."""
    return f"(?:{code(character)})" if CODED.match(character) else rf"\x{{{ord(character):x}}}"


def character_of(escape: str) -> str:
    r"""What an escape such as ``\x41`` stands for, of which `re` knows that it is one."""
    name, rest = escape[1], escape[2:]
    if name in "xuU":
        return chr(int(rest, 16))
    if name == "N":
        return unicodedata.lookup(rest[1:-1])
    return chr(int(escape[1:], 8)) if name.isdigit() else CONTROLS.get(name, name)


def set_of(members: str, *, folds: bool) -> str:
    """The expression of what stands between square brackets. `folds`: letter case does not count."""
    negated = members.startswith("^")
    items = ITEM.findall(members[negated:])
    found: Set = ([], [], [])
    at = 0
    while at < len(items):
        item = items[at]
        if item[0] == "\\" and item[1] in CLASSES:
            some = CLASSES[item[1]]
        else:
            last = item
            if at + 2 < len(items) and items[at + 1] == "-":
                at += 2
                last = items[at]
            some = _range(*(character_of(end) if end[0] == "\\" else end for end in (item, last)), folds=folds)
        for of, more in zip(found, some, strict=True):
            of += more
        at += 1
    return expression_of(*(_others(found) if negated else found))


@lru_cache(maxsize=1024)
def _range(low: str, high: str, *, folds: bool) -> Set:
    first, last = ord(low), ord(high)
    intervals = [(first, last)]
    if folds:  # what folds to another may stay: it is in no text that was folded
        cased = (c for c in map(chr, range(first, min(last, LAST_CASED) + 1)) if c.lower() != c or c.upper() != c)
        intervals += [(point, point) for point in {ord(fold(character)) for character in cased}]
    return intervals, intervals, intervals
