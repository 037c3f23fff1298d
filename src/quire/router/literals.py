"""What a regular expression tells before it runs: text that every match contains.

Most expressions cannot match a given question, and most of those contain some literal text that the question lacks.
Looking for that text is far cheaper than running them: the idea of Russ Cox's "Regular Expression Matching with a
Trigram Index" (https://swtch.com/~rsc/regexp/regexp4.html), here on the tree that Python's own parser gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from re import _constants as codes  # type: ignore[attr-defined, unused-ignore]  # not public; there since Python 3.11
from re import _parser  # type: ignore[attr-defined, unused-ignore]

from quire.patterns import REPEATS, Node, fold, tree_of

Literals = frozenset[str]
GREATEST = 16  # alternatives that are looked for one by one


def required_literals(pattern: str) -> Literals:
    """Folded texts of which every match of `pattern`, searched with IGNORECASE, contains one; empty: none is known."""
    return _best(_required(tree_of(pattern)))


def placed_literal(pattern: str) -> tuple[str, int] | None:
    """The longest folded text that stands in every match at one distance from its beginning, and that distance.

    With it an expression need not be searched for: it matches where the text stands, or nowhere.
    """
    tree = _parser.parse(pattern, re.IGNORECASE)
    found: tuple[str, int] | None = None
    before = 0  # characters, as long as their number is certain
    run: list[str] = []
    for at in range(len(tree)):
        operation, argument = tree[at]
        if operation is codes.LITERAL:
            run.append(fold(chr(argument)))
            if found is None or len(run) > len(found[0]):
                found = "".join(run), before - len(run) + 1
        elif operation not in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
            run.clear()
        least, most = tree[at : at + 1].getwidth()
        if least != most:
            return found
        before += int(least)
    return found


def needs_digit(pattern: str) -> bool:
    """Whether every match of `pattern` has a digit, as far as can be seen."""

    def needed(nodes: Iterable[Node]) -> bool:
        return any(
            (operation is codes.IN and all(_is_digit(member) for member in argument))
            or (operation is codes.SUBPATTERN and needed(argument[3]))
            or (operation in (*REPEATS, codes.POSSESSIVE_REPEAT) and argument[0] > 0 and needed(argument[2]))
            or (operation is codes.BRANCH and all(needed(branch) for branch in argument[1]))
            for operation, argument in nodes
        )

    return needed(tree_of(pattern))


def _is_digit(member: Node) -> bool:
    operation, argument = member
    if operation is codes.RANGE:
        return all(chr(end) in "0123456789" for end in argument)
    return bool(
        (operation is codes.CATEGORY and argument is codes.CATEGORY_DIGIT)
        or (operation is codes.LITERAL and chr(argument) in "0123456789")
    )


def _required(sequence: Sequence[Node]) -> list[Literals]:
    """Sets of texts; a match contains one of each set."""
    found: list[Literals] = []
    run: list[str] = []

    def end_run() -> None:
        if run:
            found.append(frozenset({"".join(run)}))
            run.clear()

    def walk(nodes: Iterable[Node]) -> None:
        for operation, argument in nodes:
            if operation is codes.LITERAL:
                run.append(fold(chr(argument)))
            elif operation in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
                continue  # of no width: what stands before and after it is adjacent
            elif operation is codes.SUBPATTERN:
                walk(argument[3])
            elif operation is codes.ATOMIC_GROUP:
                walk(argument)
            elif operation in (*REPEATS, codes.POSSESSIVE_REPEAT) and argument[0] > 0:
                walk(argument[2])
                end_run()  # what follows stands after the last round, which may be another than this first one
            else:
                end_run()
                if operation is codes.BRANCH:
                    found.extend(_of_branches(argument[1]))

    walk(sequence)
    end_run()
    return found


def _of_branches(branches: Sequence[Sequence[Node]]) -> list[Literals]:
    each = [_best(_required(branch)) for branch in branches]
    union = frozenset().union(*each)
    return [union] if all(each) and len(union) <= GREATEST else []


def _best(sets: Sequence[Literals]) -> Literals:
    """The set that says most: the longest shortest text, then the fewest alternatives."""
    return max(sets, key=lambda texts: (min(map(len, texts)), -len(texts)), default=frozenset())
