"""The rules of one partition, found by what a question must contain for them to apply.

A keyword is looked up by its longest word; an expression by some characters of a text that each of its matches
contains. Only what is found that way is checked, so a thousand rules cost about as much as the few that are plausible.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.patterns import check_pattern, fold
from quire.router.literals import needs_digit, placed_literal, required_literals
from quire.router.reading import GRAMS, WORD, Reading

if TYPE_CHECKING:
    from quire.router.table import RoutedModule

Conditions = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """A module whose rule applies. `found`: what matched, as a person reads it."""

    module: RoutedModule
    found: tuple[str, ...]

    @property
    def reason(self) -> str:
        priority = self.module.route.priority
        return f"matched {', '.join(self.found)}" + (f" at priority {priority}" if priority else "")


@dataclass(frozen=True, slots=True)
class _Clue:
    """One keyword or expression of one rule."""

    rule: int
    position: int  # among the clues of its rule
    name: str  # in a reason
    literals: Collection[str]  # one of them is in every text that matches; empty: nothing is known
    expression: re.Pattern[str] | None  # None: a keyword, which is its only literal
    placed: tuple[str, int] | None = None  # a text that every match has, and how far from its beginning
    needs_digit: bool = False
    is_word: bool = False  # a keyword of one word: it was found by all of it

    def applies(self, reading: Reading) -> bool:
        if self.expression is None:
            return self.is_word or any(reading.has_word(literal) for literal in self.literals)
        if self.needs_digit and not reading.has_digit:
            return False
        if self.placed is not None:
            return self._matches_where_it_stands(self.expression, *self.placed, reading)
        if self.literals and not any(literal in reading.folded for literal in self.literals):
            return False
        return self.expression.search(reading.text) is not None

    @staticmethod
    def _matches_where_it_stands(expression: re.Pattern[str], literal: str, distance: int, reading: Reading) -> bool:
        at = reading.folded.find(literal, distance)
        while at >= 0:
            if expression.match(reading.text, at - distance):
                return True
            at = reading.folded.find(literal, at + 1)
        return False


@dataclass(slots=True)
class RuleIndex:
    """Build it with `index_rules`."""

    modules: list[RoutedModule] = field(default_factory=list)
    by_word: dict[str, list[_Clue]] = field(default_factory=dict)
    by_gram: dict[str, list[_Clue]] = field(default_factory=dict)
    always: list[_Clue] = field(default_factory=list)
    by_metadata: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # rules of conditions alone

    def match(self, reading: Reading, metadata: Mapping[str, str]) -> list[Matched]:
        """Every module whose rule applies, in no order."""
        found: dict[int, list[tuple[int, str]]] = {}
        for clue in self._plausible(reading):
            if clue.applies(reading):
                found.setdefault(clue.rule, []).append((clue.position, clue.name))
        for pair in metadata.items():
            for rule in self.by_metadata.get(pair, ()):
                found[rule] = []
        return [
            Matched(module, (*(name for _, name in sorted(names)), *conditions_named(module.route.when)))
            for module, names in ((self.modules[rule], names) for rule, names in found.items())
            if conditions_hold(module.route.when, metadata)
        ]

    def _plausible(self, reading: Reading) -> Iterator[_Clue]:
        yield from self.always
        for key in self.by_word.keys() & reading.words:
            yield from self.by_word[key]
        seen: set[int] = set()  # an expression of several literals stands under several grams
        for key in self.by_gram.keys() & reading.grams:
            for clue in self.by_gram[key]:
                if id(clue) not in seen:
                    seen.add(id(clue))
                    yield clue


def index_rules(modules: Sequence[RoutedModule]) -> RuleIndex:
    """An index over the rules of some modules. Raises InvalidSetting for an expression that may run away."""
    index = RuleIndex()
    for module in modules:
        route = module.route
        if not (route.keywords or route.patterns or route.when):
            continue
        rule = len(index.modules)
        index.modules.append(module)
        for position, keyword in enumerate(dict.fromkeys(route.keywords)):
            _add_keyword(index, rule, position, keyword)
        for position, pattern in enumerate(dict.fromkeys(route.patterns), start=len(route.keywords)):
            _add_pattern(index, rule, position, pattern, module.module_id)
        if not (route.keywords or route.patterns):
            name, values = route.when[0]
            for value in values:
                index.by_metadata.setdefault((name, value), []).append(rule)
    return index


def order_of(matched: Matched) -> tuple[int, int, int]:
    """Higher priority first, then more matches, then the order of declaration."""
    return -matched.module.route.priority, -len(matched.found), matched.module.order


def conditions_hold(when: Conditions, metadata: Mapping[str, str]) -> bool:
    return all(metadata.get(name) in values for name, values in when)


def conditions_named(when: Conditions) -> tuple[str, ...]:
    return tuple(f"metadata {name} in {', '.join(values)}" for name, values in when)


def _add_keyword(index: RuleIndex, rule: int, position: int, keyword: str) -> None:
    folded = fold(keyword)
    # Between the ends of a keyword nothing may stand that is no part of it, so its words are words of the question.
    words = WORD.findall(folded)
    clue = _Clue(rule, position, f"keyword {keyword!r}", (folded,), None, is_word=words == [folded])
    if words:
        index.by_word.setdefault(max(words, key=len), []).append(clue)
    else:
        _add_by_literal(index, clue)


def _add_pattern(index: RuleIndex, rule: int, position: int, pattern: str, module_id: str) -> None:
    check_pattern(pattern, f"a pattern of {module_id}")
    expression = re.compile(pattern, re.IGNORECASE)
    literals, placed = tuple(sorted(required_literals(pattern))), placed_literal(pattern)
    name = f"pattern {pattern!r}"
    _add_by_literal(index, _Clue(rule, position, name, literals, expression, placed, needs_digit(pattern)))


def _add_by_literal(index: RuleIndex, clue: _Clue) -> None:
    """By the rarest gram of each literal. With a literal too short for that, or without any, it is always plausible."""
    if not clue.literals or min(map(len, clue.literals)) < min(GRAMS):
        index.always.append(clue)
        return
    for literal in clue.literals:
        size = next(size for size in GRAMS if size <= len(literal))
        grams = [literal[i : i + size] for i in range(len(literal) - size + 1)]
        rarest = min(grams, key=lambda gram: len(index.by_gram.get(gram, ())))
        index.by_gram.setdefault(rarest, []).append(clue)
