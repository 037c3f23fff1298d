"""Regular expressions over texts, alone and many at once, in time linear in the text's length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import re2

from quire.errors import InvalidSetting, PatternRefused
from quire.patterns.alphabet import encode
from quire.patterns.folding import fold
from quire.patterns.translating import flags_of, translate

MAX_MEMORY = 1 << 20  # bytes that one compiled expression may take, with what it remembers of texts


def options() -> re2.Options:
    chosen = re2.Options()
    chosen.max_mem = MAX_MEMORY
    chosen.never_capture = True
    chosen.log_errors = False
    return chosen


class Expression:
    """A regular expression that is searched for. Thread-safe; other threads run while it does.

    `ignore_case`: always, and not only if it begins with ``(?i)``.
    """

    def __init__(self, pattern: str, *, ignore_case: bool) -> None:
        """Raises PatternRefused."""
        self.translated, self.folds = translate(pattern, ignore_case=ignore_case)
        try:
            self._compiled = re2.compile(self.translated, options())
        except re2.error as error:
            told = error.args[0].decode(errors="replace") if error.args else ""
            if "repetition" in told:
                raise PatternRefused(
                    "it repeats something more than 1,000 times, inner repetition multiplied",
                    hint="write + or * for a large number",
                ) from error
            raise PatternRefused(
                f"it is too large: compiled, it takes more than {MAX_MEMORY >> 20} MiB",
                hint="use smaller numbers in {}, or several expressions",
            ) from error

    def matches(self, text: str) -> bool:
        """Whether it matches somewhere in `text`."""
        return self.found_in(encode(fold(text) if self.folds else text)) == [0]

    def found_in(self, encoded: bytes) -> list[int]:
        """[0] if it does in a text that is encoded, and folded where it folds."""
        return [0] if self._compiled.search(encoded) else []


@lru_cache(maxsize=128)
def compiled(pattern: str, *, ignore_case: bool = False) -> Expression:
    """The expression of a pattern. Raises PatternRefused."""
    return Expression(pattern, ignore_case=ignore_case)


def check_pattern(pattern: str, what: str, *, ignore_case: bool = False) -> None:
    """Raises InvalidSetting for a pattern that cannot be used. `what`: where it stands."""
    with _placed(pattern, what):
        compiled(pattern, ignore_case=ignore_case)


def check_notation(pattern: str, what: str) -> None:
    """Raises InvalidSetting for what is no regular expression. `what`: where it stands."""
    with _placed(pattern, what):
        flags_of(pattern)


@contextmanager
def _placed(pattern: str, what: str) -> Iterator[None]:
    try:
        yield
    except PatternRefused as error:
        raise InvalidSetting(f"{what}: {pattern!r:.90}: {error}", hint=error.hint) from error


class ExpressionSet:
    """Expressions that are searched for together, letter case left out. Thread-safe.

    RE2 finds out which texts each of them needs, looks for all of those at once, and tries what may match.
    """

    def __init__(self, expressions: Sequence[Expression]) -> None:
        self._searches = list(_searches(expressions, 0))

    def match(self, encoded: bytes) -> list[int]:
        """Which of them, by number, match a text that was folded and then encoded; in no order."""
        return [first + number for first, search in self._searches for number in search(encoded) or ()]


Search = Callable[[bytes], list[int] | None]


def _searches(expressions: Sequence[Expression], first: int) -> Iterator[tuple[int, Search]]:
    """RE2's filters, each with the number of its first expression. What is too much for one is halved."""
    if not expressions:
        return
    made = re2.Filter()
    for one in expressions:
        made.Add(one.translated, options())
    try:
        made.Compile()  # which also tries whether there is memory enough to match
    except re2.error:
        half = len(expressions) // 2
        if half:
            yield from _searches(expressions[:half], first)
            yield from _searches(expressions[half:], first + half)
        else:
            yield first, expressions[0].found_in
    else:
        yield first, made.Match
