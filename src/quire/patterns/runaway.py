"""Whether a regular expression may take time exponential in the length of the text, seen by its shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import _constants as codes  # type: ignore[attr-defined, unused-ignore]

from quire.errors import InvalidSetting
from quire.patterns.folding import fold
from quire.patterns.tree import REPEATS, Node, nodes_of, tree_of

MANY = 64  # rounds that count as without bound


def check_pattern(pattern: str, what: str) -> None:
    """Raises InvalidSetting for what is no regular expression, or may run away. `what`: where it stands."""
    try:
        re.compile(pattern)
        problem = runaway(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidSetting(f"{what}: {pattern!r:.90}: {error}", hint="correct the expression") from error
    if problem:
        raise InvalidSetting(
            f"{what}: {pattern!r:.90} can take exponential time: {problem}",
            hint=r"repeat once, as in \w+ for (\w+)+, and let repeated alternatives begin differently",
        )


def runaway(pattern: str) -> str | None:
    """Why `pattern` may take time exponential in the text's length, or None.

    Two shapes are found: a repetition without bound of something that itself repeats without bound, and one of
    alternatives that can begin alike. Some harmless expressions have these shapes too; all can be written without.
    """
    for operation, argument in nodes_of(tree_of(pattern)):
        if operation in REPEATS and argument[1] >= MANY:
            for inner, what in nodes_of(argument[2]):
                if inner in REPEATS and what[1] >= MANY and not _fixed_begin(argument[2], what[2]):
                    return "a repetition without bound inside of another"
                if inner is codes.BRANCH and _may_begin_alike(what[1]):
                    return "alternatives that can begin alike are repeated without bound"
    return None


def _fixed_begin(outer: Sequence[Node], inner: Sequence[Node]) -> bool:
    """Whether each round of `outer` begins with a literal that `inner` cannot match, as in ``(,\\\\d+)*``."""
    first = next(iter(outer), None)
    while first is not None and first[0] is codes.SUBPATTERN:
        first = next(iter(first[1][3]), None)
    if first is None or first[0] is not codes.LITERAL:
        return False
    separator = chr(first[1])
    return not any(_may_match(node, separator) for node in nodes_of(inner))


def _may_begin_alike(branches: Sequence[Sequence[Node]]) -> bool:
    begins = [next(iter(branch), None) for branch in branches]
    if not all(begin is not None and begin[0] is codes.LITERAL for begin in begins):
        return True
    return len({fold(chr(begin[1])) for begin in begins if begin}) < len(begins)


def _may_match(node: Node, character: str) -> bool:
    """Whether the node by itself can match `character`; containers cannot, what is in them can."""
    operation, argument = node
    if operation is codes.LITERAL:
        return fold(chr(argument)) == fold(character)
    if operation is codes.IN:
        return bool(re.fullmatch(_class_text(argument), character, re.IGNORECASE)) if _class_text(argument) else True
    return operation in (codes.ANY, codes.NOT_LITERAL, codes.GROUPREF, codes.GROUPREF_EXISTS)


CLASSES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}


def _class_text(members: Sequence[Node]) -> str:
    """A set of characters as an expression of its own; "" where it has something this does not know."""
    parts: list[str] = []
    for operation, argument in members:
        if operation is codes.NEGATE:
            parts.append("^")
        elif operation is codes.LITERAL:
            parts.append(re.escape(chr(argument)))
        elif operation is codes.RANGE:
            parts.append("-".join(re.escape(chr(end)) for end in argument))
        elif operation is codes.CATEGORY and argument in CLASSES:
            parts.append(CLASSES[argument])
        else:
            return ""
    return f"[{''.join(parts)}]"
