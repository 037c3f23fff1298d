"""The tables [limits.default] and [limits.tenants.NAME]."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from quire.errors import InvalidSetting
from quire.settings.values import NAME, table_of, unknown


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may use of a server; 0: as much as there is. `priority`: one of PRIORITIES."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent_requests: int = 0
    monthly_tokens: int = 0
    priority: str = "normal"

    @property
    def weight(self) -> int:
        """How large the tenant's share is when there is not enough for all."""
        return PRIORITIES[self.priority]


PRIORITIES = {"low": 1, "normal": 4, "high": 16}
LIMIT_KEYS = {f.name for f in fields(TenantLimits)}


def read_limits(value: Any, where: str) -> tuple[TenantLimits, dict[str, TenantLimits]]:
    """Those of everybody, and those of tenants that have their own: what these leave out is as for everybody."""
    table = table_of(value, "[limits]", where)
    for key in table:
        if key not in {"default", "tenants"}:
            raise unknown(f"table [limits.{key}]", key, {"default", "tenants"}, where)
    default = _limit(table.get("default", {}), TenantLimits(), "[limits.default]", where)
    tenants = table_of(table.get("tenants", {}), "[limits.tenants]", where)
    for name in tenants:
        if not NAME.fullmatch(name):
            raise InvalidSetting(
                f"tenant {name!r} of [limits.tenants] in {where} is not lower-case letters, digits and .-_",
                hint="name it as keys and tokens do",
            )
    return default, {
        name: _limit(limits, default, f"[limits.tenants.{name}]", where) for name, limits in tenants.items()
    }


def _limit(value: Any, default: TenantLimits, name: str, where: str) -> TenantLimits:
    table = table_of(value, name, where)
    for key, found in table.items():
        if key not in LIMIT_KEYS:
            raise unknown(f"key {key!r}", key, LIMIT_KEYS, f"{name} in {where}")
        if key == "priority" and (not isinstance(found, str) or found not in PRIORITIES):
            raise InvalidSetting(
                f"priority of {name} in {where} must be one of {', '.join(PRIORITIES)}, found {found!r}",
                hint="a class has four times the share of the next",
            )
        if key != "priority" and (type(found) is not int or not 0 <= found <= 2**53 - 1):
            raise InvalidSetting(
                f"{key} of {name} in {where} must be an integer of 0 or more, found {found!r}", hint="0: no limit"
            )
    return replace(default, **table)
