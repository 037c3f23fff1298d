"""Modules with texts and examples, and routers over them."""

from __future__ import annotations

from collections.abc import Sequence

from quire.core import ModuleSpec, RouteSpec, Scope
from quire.router import Described, Router, Stages, build_table

PUBLIC = Scope("public")


def described(name: str, text: str = "", *, scope: Scope = PUBLIC, title: str = "", **route: object) -> Described:
    """A module with a text and what leads to it: the fields of `RouteSpec`."""
    declared = RouteSpec(**route)  # type: ignore[arg-type]
    return Described(ModuleSpec(name, ("x.md",), None, title or name, "local", scope, declared), (text,))


def router(modules: Sequence[Described], outside: Sequence[str] = (), **stages: object) -> Router:
    return Router(build_table(modules, Stages(**stages), outside))  # type: ignore[arg-type]
