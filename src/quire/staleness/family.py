"""Parents and children among declared modules: order, cycles, scopes."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from quire.access import scope_within
from quire.errors import ModuleUnknown, ParentCycle, ParentUnknown, ScopeTooWide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quire.core import ModuleSpec


def in_build_order(specs: Sequence[ModuleSpec], only: Iterable[str] = ()) -> list[ModuleSpec]:
    """`specs`, or those named in `only` with their ancestors, parents before children, else in the order declared.

    Raises:
        ModuleUnknown, ParentUnknown, ParentCycle.
    """
    by_name = {spec.module_id: spec for spec in specs}
    ordered: dict[str, ModuleSpec] = {}
    for name in list(only) or list(by_name):
        if name not in by_name:
            raise ModuleUnknown(f"no module {name!r} in this project", hint=_suggest(name, by_name))
        for spec in _lineage(by_name[name], by_name):
            ordered.setdefault(spec.module_id, spec)
    return list(ordered.values())


def _lineage(spec: ModuleSpec, by_name: dict[str, ModuleSpec]) -> list[ModuleSpec]:
    """`spec` after its ancestors, root first."""
    path = [spec]
    while path[-1].parent:
        child, parent = path[-1], path[-1].parent
        if parent not in by_name:
            raise ParentUnknown(
                f"module {child.module_id} names the parent {parent!r}, which is not declared",
                hint=_suggest(parent, by_name),
            )
        path.append(by_name[parent])
        if by_name[parent] in path[:-1]:
            circle = " -> ".join(s.module_id for s in path)
            raise ParentCycle(f"modules are their own ancestors: {circle}", hint="remove one of these parents")
    return path[::-1]


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"declared: {', '.join(sorted(known))}"


def check_scope(child: ModuleSpec, parent: ModuleSpec) -> None:
    """A module's KV is computed over its parent's text, so whoever may read it must be allowed to read the parent.

    Raises:
        ScopeTooWide.
    """
    if not scope_within(child.scope, parent.scope):
        raise ScopeTooWide(
            f"module {child.module_id} ({child.scope}) would be visible to more readers than its parent "
            f"{parent.module_id} ({parent.scope})",
            hint=f"narrow acl of {child.module_id}, or give it a wider parent",
        )
