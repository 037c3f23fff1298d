"""Which module answers: the one named in the request, else the one whose rules fit best. Deterministic.

Order of the rules: higher `priority` first, then more matches (distinct keywords and patterns found in the question),
then the order of declaration in quire.toml.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.core import Plan
from quire.errors import NoRoute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import ModuleSpec


@dataclass(frozen=True, slots=True)
class _Rule:
    module_id: str
    priority: int
    expressions: tuple[tuple[str, re.Pattern[str]], ...]  # (how it reads in a reason, what is searched)

    def matches(self, question: str) -> list[str]:
        return [name for name, expression in self.expressions if expression.search(question)]


class Router:
    """Routes by the rules of the declared modules."""

    def __init__(self, specs: Sequence[ModuleSpec]) -> None:
        self._rules = [_rule(spec) for spec in specs if spec.keywords or spec.patterns]

    def route(self, question: str, *, module: str | None = None) -> Plan:
        """Decide who answers `question`.

        Args:
            module: ``name`` or ``name@version`` as the caller named it; wins over all rules.

        Raises:
            NoRoute: nothing named, no rule applies.
        """
        if module is not None:
            name, _, version = module.partition("@")
            return Plan(name, "explicit", f"the request names {module}", 1.0, (name,), version or None)
        found = [(rule, rule.matches(question)) for rule in self._rules]
        fitting = sorted(((r, m) for r, m in found if m), key=lambda pair: (-pair[0].priority, -len(pair[1])))
        if not fitting:
            known = ", ".join(rule.module_id for rule in self._rules) or "none has rules"
            raise NoRoute(
                "no module is named and no route rule matches the question",
                hint=f"name a module (quire.module in the request, --module on the command line); with rules: {known}",
            )
        rule, matched = fitting[0]
        reason = f"matched {', '.join(matched)}" + (f" at priority {rule.priority}" if rule.priority else "")
        return Plan(rule.module_id, "rule", reason, 1.0, tuple(r.module_id for r, _ in fitting))


def _rule(spec: ModuleSpec) -> _Rule:
    keywords = [
        (f"keyword {word!r}", re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)) for word in spec.keywords
    ]
    patterns = [(f"pattern {text!r}", re.compile(text, re.IGNORECASE)) for text in spec.patterns]
    return _Rule(spec.module_id, spec.priority, (*keywords, *patterns))
