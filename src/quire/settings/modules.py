"""The tables [modules.NAME] and their routes."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, cast, get_args

from quire.core import ModuleSpec, RouteSpec, Scope, ScopeKind, WhenStale
from quire.errors import InvalidSetting
from quire.patterns import check_notation, check_pattern
from quire.settings.values import NAME, check_title, optional_string, strings, table_of, unknown

MODULE_KEYS = {"title", "sources", "parent", "acl", "route", "ttl", "stale", "golden"}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST_TTL = 100 * 365 * 86_400
ROUTE_KEYS = {f.name for f in fields(RouteSpec)}
ROUTE_LISTS = ("keywords", "patterns", "intents", "products", "states", "examples")


def read_module(name: str, table: Any, tenant: str, where: str) -> ModuleSpec:
    table = table_of(table, f"[modules.{name}]", where)
    here = f"[modules.{name}] in {where}"
    if not NAME.fullmatch(name):
        raise InvalidSetting(
            f"module name {name!r} in {where} is not lower-case letters, digits and .-_", hint="rename it"
        )
    for key in table:
        if key not in MODULE_KEYS:
            raise unknown(f"key {key!r}", key, MODULE_KEYS, here)
    sources = strings(table.get("sources", []), f"sources of {here}")
    if not sources:
        raise InvalidSetting(f"{here} has no sources", hint='give sources = ["file.md", "directory", "*.md"]')
    title = optional_string(table.get("title"), f"title of {here}") or name
    check_title(title, here)
    return ModuleSpec(
        module_id=name,
        sources=sources,
        parent=optional_string(table.get("parent"), f"parent of {here}"),
        title=title,
        tenant=tenant,
        scope=parse_scope(optional_string(table.get("acl"), f"acl of {here}") or f"tenant:{tenant}", where),
        route=_route(table.get("route", {}), f"[modules.{name}.route]", where),
        ttl_seconds=_ttl(optional_string(table.get("ttl"), f"ttl of {here}"), here),
        stale=_when_stale(table.get("stale", "serve"), here),
        golden=strings(table.get("golden", []), f"golden of {here}"),
    )


def _ttl(text: str | None, here: str) -> int:
    """Seconds of ``90s``, ``30m``, ``12h``, ``30d`` or ``4w``; 0 for none."""
    if text is None:
        return 0
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw])", text)
    seconds = int(found[1]) * SECONDS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_TTL:
        raise InvalidSetting(
            f"ttl of {here} must be a number of seconds, minutes, hours, days or weeks up to 100 years, found {text!r}",
            hint='e.g. ttl = "30d"; s, m, h, d and w are the units',
        )
    return seconds


def _when_stale(value: Any, here: str) -> WhenStale:
    if value not in get_args(WhenStale):
        raise InvalidSetting(
            f"stale of {here} must be one of {', '.join(get_args(WhenStale))}, found {value!r}",
            hint="what the module does while its sources say something else: docs/invalidation.md",
        )
    return cast("WhenStale", value)


def _route(value: Any, name: str, where: str) -> RouteSpec:
    table, where = table_of(value, name, where), f"{name} in {where}"
    for key in table:
        if key not in ROUTE_KEYS:
            raise unknown(f"key {key!r}", key, ROUTE_KEYS, where)
    lists = {key: strings(table.get(key, []), f"{key} of {where}") for key in ROUTE_LISTS}
    for pattern in lists["patterns"]:
        check_notation(pattern, f"patterns of {where}")
    priority = table.get("priority", 0)
    if type(priority) is not int:
        raise InvalidSetting(f"priority of {where} must be an integer, found {priority!r}", hint="e.g. priority = 1")
    return RouteSpec(
        **lists,
        when=_conditions(table.get("when", {}), f"when of {where}"),
        metadata=_conditions(table.get("metadata", {}), f"metadata of {where}"),
        priority=priority,
        summary=optional_string(table.get("summary"), f"summary of {where}") or "",
    )


def check_rules(spec: ModuleSpec) -> None:
    """Raises InvalidSetting for a pattern that cannot be matched in linear time.

    Reading the settings does not: a server with such a pattern starts and leaves it out; a build refuses it.
    """
    for pattern in spec.route.patterns:
        check_pattern(pattern, f"a pattern of {spec.module_id}", ignore_case=True)


def _conditions(value: Any, what: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """``{channel = "email", plan = ["pro", "team"]}`` as names with the values that do."""
    table = table_of(value, what, "quire.toml")
    return tuple(
        (name, strings([found] if isinstance(found, str) else found, f"{name} in {what}"))
        for name, found in sorted(table.items())
    )


def parse_scope(text: str, where: str) -> Scope:
    """``public``, ``tenant:ACME``, ``workspace:ACME/BILLING`` or ``user:ACME/ANN``.

    Raises:
        InvalidSetting.
    """
    kind, _, owner = text.partition(":")
    parts = owner.split("/") if owner else []
    wanted = {"public": 0, "tenant": 1, "workspace": 2, "user": 2}.get(kind)
    if wanted is None or len(parts) != wanted or not all(NAME.fullmatch(p) for p in parts):
        raise InvalidSetting(
            f"acl {text!r} in {where} is not public, tenant:T, workspace:T/W or user:T/U",
            hint="names are lower-case letters, digits, dots, dashes and underscores",
        )
    return Scope(cast("ScopeKind", kind), owner)
