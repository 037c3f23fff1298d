r"""Python's regular expressions as RE2's: the same texts match, in time linear in their length.

Left out is what cannot be matched so: backreferences, conditions on groups, looking ahead and behind, atomic groups and
possessive repetition. Only whether a text matches is asked, so groups and the order of alternatives do not count.
"""

from __future__ import annotations

import re

from quire.errors import PatternRefused
from quire.patterns import charset
from quire.patterns.folding import fold

TOKEN = re.compile(
    r"""\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|[1-3][0-7]{2}|[1-9][0-9]?|.)
    |\[\^?\]?(?:\\.|[^\]\\])*\]
    |\(\?\#[^)]*\) |\(\?P<\w+> |\(\?P= |\(\?[a-zA-Z-]*[:)] |\(\?<?[=!] |\(\?[>(]
    |[*+?][+?]? |\{(?=[\d,])\d*,?\d*\}[+?]?
    |.""",
    re.DOTALL | re.VERBOSE,
)
ANY, ANY_IN_LINE = charset.none_of(), charset.none_of("\n")
END = r"(?:\n?\z)"
CLASSES = {rf"\{name}": charset.one_of(name) for name in charset.CLASSES}
FIXED = {**CLASSES, "(": "(?:", ")": ")", "|": "|", r"\b": r"\b", r"\B": r"\B", r"\A": r"\A", r"\Z": r"\z"}

LOOKING = "looks ahead or behind"
WITHOUT_LOOKING = "several expressions, each of them sufficient, and `when` do most of what it is for"
REFUSED = {
    "(?=": (LOOKING, WITHOUT_LOOKING),
    "(?!": (LOOKING, WITHOUT_LOOKING),
    "(?<=": (LOOKING, WITHOUT_LOOKING),
    "(?<!": (LOOKING, r"\b and \B say what stands before a word"),
    "(?P=": ("refers back to a group", "write out what may stand there"),
    "(?(": ("depends on a group", "write both cases as alternatives, (?:...|...)"),
    "(?>": ("has an atomic group", "write (?:...): nothing runs away here"),
}


def flags_of(pattern: str) -> int:
    """The flags that an expression sets for all of it. Raises PatternRefused for what is no regular expression."""
    try:
        return re.compile(pattern).flags
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternRefused(str(error), hint="correct the expression") from error


def translate(pattern: str, *, ignore_case: bool) -> tuple[str, bool]:
    """The expression of RE2 for texts in its alphabet, and whether they are to be folded before.

    Raises:
        PatternRefused: `pattern` is no regular expression, or one that takes more than linear time.
    """
    flags = flags_of(pattern)
    for flag, letter, hint in (
        (re.VERBOSE, "x", "write it without white space and comments"),
        (re.ASCII, "a", r"write [0-9] and [A-Za-z0-9_] for \d and \w"),
    ):
        if flags & flag:
            raise PatternRefused(f"it has the flag {letter}, which is not supported", hint=hint)
    folds = ignore_case or bool(flags & re.IGNORECASE)
    scopes = [flags]
    parts = []
    for symbol in TOKEN.findall(pattern):
        if symbol in REFUSED:
            reason, hint = REFUSED[symbol]
            raise PatternRefused(f"it {reason}: {symbol}", hint=hint)
        if symbol.startswith("(?#"):
            continue
        if symbol.startswith("(") and not symbol.endswith(")"):
            scopes.append(_flags_in(symbol, scopes[-1], folds=folds))
        elif symbol == ")":
            scopes.pop()
        parts.append(_translated(symbol, scopes[-1], folds=folds))
    return "".join(parts), folds


def _translated(symbol: str, flags: int, *, folds: bool) -> str:
    """One symbol, under the flags of the group that it stands in."""
    if symbol in FIXED:
        return FIXED[symbol]
    match symbol[0], len(symbol):
        case "(", _:
            return "" if symbol.endswith(")") else "(?:"  # flags of the whole expression are known already
        case ".", _:
            return ANY if flags & re.DOTALL else ANY_IN_LINE
        case "^", _:
            return "(?m:^)" if flags & re.MULTILINE else r"\A"
        case "$", _:
            return "(?m:$)" if flags & re.MULTILINE else END
        case ("*" | "+" | "?", _):
            return _repetition(symbol)
        case "{", length if length > 1:
            return _repetition(symbol)
        case "[", _:
            return charset.set_of(symbol[1:-1], folds=folds)
        case "\\", _:
            if symbol[1] in "123456789" and len(symbol) < 4:
                raise PatternRefused(f"it refers back to a group: {symbol}", hint="write out what may stand there")
            return charset.one(_case(charset.character_of(symbol), folds=folds))
    return charset.one(_case(symbol, folds=folds))


def _case(character: str, *, folds: bool) -> str:
    return fold(character) if folds else character


def _repetition(symbol: str) -> str:
    if len(symbol) > 1 and symbol.endswith("+"):
        raise PatternRefused(f"it has a possessive repetition: {symbol}", hint=f"write {symbol[:-1]}")
    if symbol[0] != "{":
        return symbol[0]  # what is left out, as few as possible, does not count: the same texts match
    least, comma, most = symbol.strip("{}?").partition(",")
    return f"{{{least or 0}{comma}{most}}}"


def _flags_in(symbol: str, flags: int, *, folds: bool) -> int:
    r"""The flags within a group that begins with `symbol`, such as ``(?s-m:``."""
    letters = symbol[2:-1] if symbol.startswith("(?") and symbol.endswith(":") else ""
    on, _, off = letters.partition("-")
    for letter in on + off:
        if letter not in "ism" or (letter == "i" and (letter in off or not folds)):
            raise PatternRefused(
                f"it has the flag {letter} for a part of it: {symbol}",
                hint="put (?i) at the beginning, or leave it out",
            )
    flags |= (re.DOTALL if "s" in on else 0) | (re.MULTILINE if "m" in on else 0)
    return flags & ~((re.DOTALL if "s" in off else 0) | (re.MULTILINE if "m" in off else 0))
