"""Modules that a request's hints name: its intent, product, workflow state and metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.router.hints import Hints
    from quire.router.table import RoutedModule

Declared = tuple[str, str]  # what kind of hint, its value


@dataclass(frozen=True, slots=True)
class Named:
    """A module that hints lead to. `found`: which ones, as a person reads them."""

    module: RoutedModule
    found: tuple[str, ...]

    @property
    def reason(self) -> str:
        return f"the request says {', '.join(self.found)}"


@dataclass(slots=True)
class HintIndex:
    """Build it with `index_hints`."""

    by_hint: dict[Declared, list[tuple[RoutedModule, frozenset[str]]]] = field(default_factory=dict)  # and its kinds

    def match(self, hints: Hints) -> list[Named]:
        """Modules that declare one hint of the request or more, and contradict none, in no order."""
        given = dict(given_hints(hints))
        found: dict[str, tuple[RoutedModule, frozenset[str], list[str]]] = {}
        for hint in given.items():
            said = " ".join(hint)
            for module, kinds in self.by_hint.get(hint, ()):
                found.setdefault(module.module_id, (module, kinds, []))[2].append(said)
        return [
            Named(module, tuple(names))
            for module, kinds, names in found.values()
            if len(names) == len(kinds.intersection(given))  # of a kind that is not among them it declares other values
        ]


def index_hints(modules: Sequence[RoutedModule]) -> HintIndex:
    index = HintIndex()
    for module in modules:
        declared = dict(declared_hints(module))
        for kind, values in declared.items():
            for value in dict.fromkeys(values):
                index.by_hint.setdefault((kind, value), []).append((module, frozenset(declared)))
    return index


def order_of(named: Named) -> tuple[int, int, int]:
    """More hints first, then higher priority, then the order of declaration."""
    return -len(named.found), -named.module.route.priority, named.module.order


def given_hints(hints: Hints) -> Iterator[Declared]:
    for kind, value in (("intent", hints.intent), ("product", hints.product), ("state", hints.state)):
        if value is not None:
            yield kind, value
    for name, value in hints.metadata:
        yield f"metadata {name}", value


def declared_hints(module: RoutedModule) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The values of each kind of hint that lead to a module; kinds that it does not declare are left out."""
    route = module.route
    for kind, values in (("intent", route.intents), ("product", route.products), ("state", route.states)):
        if values:
            yield kind, values
    for name, values in route.metadata:
        yield f"metadata {name}", values
