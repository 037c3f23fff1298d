"""Bringing a route table into force: from the project file, the sources, and what is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quire import sources
from quire.access import scope_within
from quire.errors import ModuleUnknown, NoLiveVersion
from quire.router.building import Described, build_table
from quire.router.differences import Difference, differences
from quire.router.rules import index_rules
from quire.router.table import RoutedModule, RouteTable, Stages

if TYPE_CHECKING:
    from quire.core import ModuleSpec, Scope
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.sources import Document


@dataclass(frozen=True, slots=True)
class PublishedRoutes:
    """`changed`: whether it is another table than before. `unrouted`: declared modules without a live version."""

    table: RouteTable
    changed: bool
    unrouted: tuple[str, ...]


def publish_routes(settings: Settings, registry: Registry, *, actor: str, reason: str) -> PublishedRoutes:
    """Make the route table of the declared modules that are live, and bring it into force. Needs no model.

    Raises:
        InvalidSetting: a pattern that cannot be matched in linear time.
        SourceError, RegistryError.
    """
    table = draft_routes(settings, registry)
    changed = registry.routes.put(table.draft, actor=actor, reason=reason)
    routed = {module.module_id for module in table.modules}
    return PublishedRoutes(table, changed, tuple(s.module_id for s in settings.modules if s.module_id not in routed))


def draft_routes(
    settings: Settings,
    registry: Registry,
    going_live: Sequence[VersionRecord] = (),
    read: Mapping[str, Sequence[Document]] | None = None,
) -> RouteTable:
    """The table of the declared modules that are live, or are `going_live`. Changes nothing. Raises as above.

    `read`: the sources of modules that the caller has read already.
    """
    going = {record.module_id: record for record in going_live}
    described: list[Described] = []
    for spec in settings.modules:
        record = going.get(spec.module_id) or _live(registry, spec.module_id)
        scope = _readers(record) if record else None
        if record is not None and scope is not None:
            documents = (read or {}).get(spec.module_id) or _read(settings, spec)
            # Who may see it is what the version that answers says, not what the project file says of the next one.
            seen = replace(spec, scope=scope, title=record.title)
            prose = tuple(document.text for document in documents if document.media != "mcp")  # nobody asks for tools
            described.append(Described(seen, prose))
    return build_table(described, Stages.of_settings(settings), settings["routing.outside"])


def undeclared_routes(settings: Settings, registry: Registry) -> list[Difference]:
    """Where the table in force routes otherwise than the project file says. Reads no sources: texts are left out.

    Raises:
        RegistryError, RouteTableInvalid.
    """
    version = registry.routes.in_force()
    table = RouteTable.parse(version.document, version.weights) if version else RouteTable()
    routed = {module.module_id: module for module in table.modules}
    declared: list[RoutedModule] = []
    for order, spec in enumerate(settings.modules):
        if spec.module_id in routed:
            declared.append(replace(routed[spec.module_id], route=spec.route))
        elif (record := _live(registry, spec.module_id)) and (scope := _readers(record)):
            declared.append(RoutedModule(spec.module_id, scope, order, record.title, "", spec.route))
    if version is None and not declared:
        return []
    stages, outside = Stages.of_settings(settings), tuple(settings["routing.outside"])
    return differences(table, RouteTable(tuple(declared), stages, outside, table.weights))


def unusable_rules(registry: Registry) -> list[str]:
    """The patterns of the table in force that servers leave out, and why. Raises RegistryError, RouteTableInvalid."""
    version = registry.routes.in_force()
    return index_rules(RouteTable.parse(version.document, version.weights).modules).unusable if version else []


def _readers(record: VersionRecord) -> Scope | None:
    """The scope in which a version is routed to; None where its own and that of its module's acl have no order."""
    narrowed = record.narrowed
    if narrowed is None or scope_within(record.scope, narrowed):
        return record.scope
    return narrowed if scope_within(narrowed, record.scope) else None


def _live(registry: Registry, module_id: str) -> VersionRecord | None:
    try:
        return registry.live(module_id)
    except (ModuleUnknown, NoLiveVersion):
        return None


def _read(settings: Settings, spec: ModuleSpec) -> list[Document]:
    return sources.collect(settings.root, spec.sources, max_bytes=settings["build.max_source_bytes"])
