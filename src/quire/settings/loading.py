"""quire.toml and the environment, read into `Settings`."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import InvalidSetting, ProjectNotFound
from quire.settings.limits import TenantLimits, read_limits
from quire.settings.modules import read_module
from quire.settings.table import BY_NAME, MAX_CPU_ISA, NESTED, SECTIONS
from quire.settings.values import checked, parsed, table_of, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quire.core import ModuleSpec
    from quire.settings.table import Value

PROJECT_FILE = "quire.toml"
REGISTRY_FILE = "registry.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """Values by dotted name, declared modules and limits, and the directory that relative paths start from."""

    root: Path
    values: Mapping[str, Value] = field(default_factory=dict)
    modules: tuple[ModuleSpec, ...] = ()
    default_limits: TenantLimits = field(default_factory=TenantLimits)
    tenant_limits: Mapping[str, TenantLimits] = field(default_factory=dict)

    def limits_of(self, tenant: str) -> TenantLimits:
        """Its own limits, or those of everybody."""
        return self.tenant_limits.get(tenant, self.default_limits)

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name, BY_NAME[name].default)

    @property
    def state(self) -> Path:
        """Directory of registry and artifacts."""
        return self.root / str(self["store.path"])

    @property
    def registry_place(self) -> str:
        """Path or URL of the catalogue of modules. It may hold a password: not for messages."""
        return str(self["registry.url"] or self.state / REGISTRY_FILE)

    @property
    def model_home(self) -> Path:
        """Directory of fetched and converted models."""
        if chosen := self["model.home"]:
            return Path(chosen).expanduser()
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        return Path(base).expanduser() / "quire" / "models"

    @property
    def model_name(self) -> str:
        """`model.path`, made absolute where it names something inside the project."""
        name = str(self["model.path"])
        inside = self.root / name
        return str(inside) if inside.exists() else name


def find_project(start: Path | None = None) -> Path:
    """The nearest quire.toml at `start` (default: here) or above it.

    Raises:
        ProjectNotFound.
    """
    here = (start or Path.cwd()).resolve()
    for directory in (here, *here.parents):
        if (directory / PROJECT_FILE).is_file():
            return directory / PROJECT_FILE
    raise ProjectNotFound(
        f"no {PROJECT_FILE} in {here} or above it",
        hint="run `quire init`, or give the project with --project DIR",
    )


def load_settings(project_file: Path | None, environ: Mapping[str, str], *, root: Path | None = None) -> Settings:
    """Settings from `project_file` (None: defaults alone), overridden by QUIRE_* of `environ`.

    Raises:
        InvalidSetting, UnknownSetting.
    """
    document = _read(project_file) if project_file else {}
    where = str(project_file or "the environment")
    values: dict[str, Value] = {}
    for section, table in document.items():
        if section in NESTED:
            continue
        if section not in SECTIONS:
            raise unknown(f"section [{section}]", section, {*SECTIONS, *NESTED}, where)
        for key, value in table_of(table, f"[{section}]", where).items():
            name = f"{section}.{key}"
            if name not in BY_NAME:
                raise unknown(f"key {name!r}", name, set(BY_NAME), where)
            values[name] = checked(BY_NAME[name], value, where)
    values |= _from_environ(environ)
    base = (project_file.parent if project_file else root or Path.cwd()).resolve()
    tenant = str(values.get("project.tenant", BY_NAME["project.tenant"].default))
    declared = table_of(document.get("modules", {}), "[modules]", where)
    modules = tuple(read_module(name, table, tenant, where) for name, table in declared.items())
    return Settings(base, values, modules, *read_limits(document.get("limits", {}), where))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(f"cannot read {path}: {error.strerror}", hint="check the path and its rights") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSetting(f"{path} is not valid TOML: {error}", hint="correct the line named") from error


def _from_environ(environ: Mapping[str, str]) -> dict[str, Value]:
    names = {"QUIRE_" + name.upper().replace(".", "_"): name for name in BY_NAME}
    values: dict[str, Value] = {}
    for variable, text in environ.items():
        if not variable.startswith("QUIRE_") or variable == MAX_CPU_ISA:
            continue
        if variable not in names:
            raise unknown(f"variable {variable}", variable, set(names), "the environment")
        setting = BY_NAME[names[variable]]
        values[setting.name] = checked(setting, parsed(setting, text, variable), variable)
    return values
