"""From declared modules and their texts to a route table, with all that is learned from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quire.artifact import digest_bytes
from quire.core import ModuleSpec, Scope
from quire.router.learning import learn, pack
from quire.router.summary import passages
from quire.router.table import RoutedModule, RouteTable, Stages
from quire.settings import check_rules

EVERY_STAGE = Stages()


@dataclass(frozen=True, slots=True)
class Described:
    """A module with the canonical texts of its sources. Its spec's scope is that of the version that answers."""

    spec: ModuleSpec
    texts: tuple[str, ...] = ()


def build_table(
    described: Iterable[Described], stages: Stages = EVERY_STAGE, outside: Sequence[str] = ()
) -> RouteTable:
    """The table of some modules in the order of their declaration. Deterministic: same inputs, same bytes.

    `outside`: questions that no module covers; the learned stages are told to be unsure about them.

    Raises:
        InvalidSetting: a pattern that cannot be matched in linear time.
    """
    by_scope: dict[Scope, list[tuple[RoutedModule, list[str]]]] = {}
    for order, one in enumerate(described):
        spec = one.spec
        check_rules(spec)
        about = passages(spec.title, spec.route.summary, one.texts)
        digest = digest_bytes(json.dumps(about).encode())
        module = RoutedModule(spec.module_id, spec.scope, order, spec.title, digest, spec.route)
        by_scope.setdefault(spec.scope, []).append((module, about))
    modules = [module for each in by_scope.values() for module, _ in each]
    learned = {
        scope: learn([about for _, about in each], [module.route.examples for module, _ in each], outside)
        for scope, each in by_scope.items()
    }
    ordered = tuple(sorted(modules, key=lambda module: module.order))
    return RouteTable(ordered, stages, tuple(outside), pack(learned))
