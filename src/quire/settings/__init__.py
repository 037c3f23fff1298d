"""The only reader of quire.toml and of QUIRE_* variables.

Every setting stands once in SETTINGS. `QUIRE_` + its name in capitals, dots as underscores, overrides the file:
QUIRE_MODEL_PATH for `model.path`. Unknown keys and wrong types fail at start.

table      all settings           values    what a value must be
modules    [modules.NAME]         limits    [limits.default], [limits.tenants.NAME]
loading    finding and reading a project's settings      addresses  the shape of URLs, without asking anybody
"""

from quire.settings.limits import LIMIT_KEYS, PRIORITIES, TenantLimits
from quire.settings.loading import PROJECT_FILE, REGISTRY_FILE, Settings, find_project, load_settings
from quire.settings.modules import MODULE_KEYS, ROUTE_KEYS, parse_scope
from quire.settings.table import BY_NAME, MAX_CPU_ISA, SETTINGS, Setting
from quire.settings.values import NAME, check_title

__all__ = [
    "BY_NAME",
    "LIMIT_KEYS",
    "MAX_CPU_ISA",
    "MODULE_KEYS",
    "NAME",
    "PRIORITIES",
    "PROJECT_FILE",
    "REGISTRY_FILE",
    "ROUTE_KEYS",
    "SETTINGS",
    "Setting",
    "Settings",
    "TenantLimits",
    "check_title",
    "find_project",
    "load_settings",
    "parse_scope",
]
