"""The rules of one partition, found by what a question must contain for them to apply.

A keyword is looked up by its longest word. Expressions are searched for all at once, and RE2 runs those that may match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.errors import PatternRefused
from quire.patterns import Expression, ExpressionSet, compiled, fold
from quire.router.reading import WORD, Reading

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
    """One keyword or expression of one rule. `keyword`: folded; "" for an expression."""

    rule: int
    position: int  # among the clues of its rule
    name: str  # in a reason
    keyword: str = ""


@dataclass(slots=True)
class RuleIndex:
    """Build it with `index_rules`. `unusable`: what was left out, and why."""

    modules: list[RoutedModule] = field(default_factory=list)
    by_word: dict[str, list[_Clue]] = field(default_factory=dict)
    by_expression: list[_Clue] = field(default_factory=list)  # as numbered in `expressions`
    expressions: ExpressionSet = field(default_factory=lambda: ExpressionSet(()))
    by_metadata: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # rules of conditions alone
    unusable: list[str] = field(default_factory=list)

    def match(self, reading: Reading, metadata: Mapping[str, str]) -> list[Matched]:
        """Every module whose rule applies, in no order."""
        found: dict[int, list[tuple[int, str]]] = {}
        for clue in self._clues(reading):
            found.setdefault(clue.rule, []).append((clue.position, clue.name))
        for pair in metadata.items():
            for rule in self.by_metadata.get(pair, ()):
                found[rule] = []
        return [
            Matched(module, (*(name for _, name in sorted(names)), *conditions_named(module.route.when)))
            for module, names in ((self.modules[rule], names) for rule, names in found.items())
            if conditions_hold(module.route.when, metadata)
        ]

    def _clues(self, reading: Reading) -> Iterator[_Clue]:
        for word in self.by_word.keys() & reading.words:
            for clue in self.by_word[word]:
                if clue.keyword == word or reading.has_word(clue.keyword):
                    yield clue
        for number in self.expressions.match(reading.encoded):
            yield self.by_expression[number]


def index_rules(modules: Sequence[RoutedModule]) -> RuleIndex:
    """An index over the rules of some modules, without the expressions that cannot be used."""
    index = RuleIndex()
    expressions: list[Expression] = []
    for module in modules:
        route = module.route
        if not (route.keywords or route.patterns or route.when):
            continue
        rule = len(index.modules)
        index.modules.append(module)
        for position, keyword in enumerate(dict.fromkeys(route.keywords)):
            clue = _Clue(rule, position, f"keyword {keyword!r}", fold(keyword))
            # Nothing may stand between a keyword's ends but itself, so its words are words of the question.
            if words := WORD.findall(clue.keyword):
                index.by_word.setdefault(max(words, key=len), []).append(clue)
            else:
                index.by_expression.append(clue)
                expressions.append(compiled(rf"(?:\A|\W){re.escape(keyword)}(?:\W|\Z)", ignore_case=True))
        for position, pattern in enumerate(dict.fromkeys(route.patterns), start=len(route.keywords)):
            try:
                expressions.append(compiled(pattern, ignore_case=True))
            except PatternRefused as error:
                index.unusable.append(f"a pattern of {module.module_id}: {pattern!r:.90}: {error}")
                continue
            index.by_expression.append(_Clue(rule, position, f"pattern {pattern!r}"))
        if not (route.keywords or route.patterns):
            name, values = route.when[0]
            for value in values:
                index.by_metadata.setdefault((name, value), []).append(rule)
    index.expressions = ExpressionSet(expressions)
    return index


def order_of(matched: Matched) -> tuple[int, int, int]:
    """Higher priority first, then more matches, then the order of declaration."""
    return -matched.module.route.priority, -len(matched.found), matched.module.order


def conditions_hold(when: Conditions, metadata: Mapping[str, str]) -> bool:
    return all(metadata.get(name) in values for name, values in when)


def conditions_named(when: Conditions) -> tuple[str, ...]:
    return tuple(f"metadata {name} in {', '.join(values)}" for name, values in when)
