"""A regular expression as the tree that Python's own parser gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from re import _constants as codes  # type: ignore[attr-defined, unused-ignore]  # not public; there since Python 3.11
from re import _parser  # type: ignore[attr-defined, unused-ignore]
from typing import Any

Node = tuple[Any, Any]
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT)


def tree_of(pattern: str) -> Sequence[Node]:
    parsed: Sequence[Node] = _parser.parse(pattern, re.IGNORECASE)
    return parsed


def _inside(operation: Any, argument: Any) -> Iterable[Sequence[Node]]:
    """The sequences directly inside of a node."""
    if operation is codes.SUBPATTERN:
        return [argument[3]]
    if operation is codes.BRANCH:
        return list(argument[1])
    if operation in (*REPEATS, codes.POSSESSIVE_REPEAT):
        return [argument[2]]
    if operation in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    if operation is codes.ATOMIC_GROUP:
        return [argument]
    if operation is codes.GROUPREF_EXISTS:
        return [part for part in argument[1:] if part is not None]
    return []


def nodes_of(sequence: Iterable[Node]) -> Iterator[Node]:
    for operation, argument in sequence:
        yield operation, argument
        for inner in _inside(operation, argument):
            yield from nodes_of(inner)
