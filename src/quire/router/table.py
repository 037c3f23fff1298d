"""The route table: everything that routing goes by, as one document with a digest.

It is canonical JSON (RFC 8785) and names itself by the digest of its bytes. The weights that were learned from it lie
beside it; their digest is in the document. Two tables that route alike are one table; a change of any rule, example,
text or threshold is another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from quire.artifact import canonical, digest_bytes
from quire.core import RouteSpec, Scope
from quire.errors import RouteTableInvalid
from quire.registry import RouteDraft

if TYPE_CHECKING:
    from quire.settings import Settings

FORMAT = 1


@dataclass(frozen=True, slots=True)
class RoutedModule:
    """One module of a table. `order`: its place in the declaration, which decides between equals."""

    module_id: str
    scope: Scope
    order: int
    title: str
    text: str  # digest of the passages that the semantic stage knows
    route: RouteSpec


@dataclass(frozen=True, slots=True)
class Stages:
    """Which stages a project has, as the settings `routing.*`; a confidence is the least with which a stage decides."""

    explicit: bool = True
    rules: bool = True
    classifier: bool = True
    classifier_confidence: float = 0.5
    semantic: bool = True
    semantic_confidence: float = 0.5
    fallback: bool = True  # off: a question that is not covered is an error

    @classmethod
    def of_settings(cls, settings: Settings) -> Stages:
        return cls(**{field.name: settings[f"routing.{field.name}"] for field in fields(cls)})


@dataclass(frozen=True)
class RouteTable:
    """A version of the routes. Immutable; `build_table` makes one, `parse` reads one."""

    modules: tuple[RoutedModule, ...] = ()
    stages: Stages = Stages()
    outside: tuple[str, ...] = ()  # questions that no module covers
    weights: bytes = b""  # of the learned stages, as `learning.pack` gives them

    @cached_property
    def document(self) -> str:
        """The canonical JSON."""
        return canonical(
            {
                "format": FORMAT,
                "stages": asdict(self.stages),
                "modules": {m.module_id: _module_value(m) for m in self.modules},
                "outside": self.outside,
                "weights": digest_bytes(self.weights),
            }
        ).decode()

    @property
    def draft(self) -> RouteDraft:
        """For the registry, to bring it into force."""
        return RouteDraft(self.digest, self.document, self.weights)

    @property
    def values(self) -> dict[str, Any]:
        """The document as JSON values."""
        values: dict[str, Any] = json.loads(self.document)
        return values

    @cached_property
    def digest(self) -> str:
        return digest_bytes(self.document.encode())

    @classmethod
    def parse(cls, document: str, weights: bytes) -> RouteTable:
        """The table of a document and its weights. Raises RouteTableInvalid for what `build_table` never made."""
        try:
            value = json.loads(document)
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']!r} is not {FORMAT}")
            modules = sorted((_module(k, v) for k, v in value["modules"].items()), key=lambda m: m.order)
            table = cls(tuple(modules), Stages(**value["stages"]), tuple(value["outside"]), weights)
            if table.document != document:
                raise ValueError("the document, or the digest of its weights, is not what it says")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RouteTableInvalid(
                f"the route table does not read as one: {error}", hint="run `quire route build`, which makes a new one"
            ) from error
        return table


def _module_value(module: RoutedModule) -> dict[str, Any]:
    """What is declared of a module; what is empty is left out."""
    route = {f.name: getattr(module.route, f.name) for f in fields(RouteSpec)}
    return {
        "scope": {"kind": module.scope.kind, "owner": module.scope.owner},
        "order": module.order,
        "title": module.title,
        "text": module.text,
        **{name: value for name, value in route.items() if value},
    }


def _module(module_id: str, value: Mapping[str, Any]) -> RoutedModule:
    named = {"scope", "order", "title", "text"}
    route = {name: _frozen(found) for name, found in value.items() if name not in named}
    scope = Scope(**value["scope"])
    return RoutedModule(module_id, scope, value["order"], value["title"], value["text"], RouteSpec(**route))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
