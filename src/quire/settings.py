"""The only reader of quire.toml and of QUIRE_* variables.

Every setting stands once in SETTINGS: name, default, bounds, help. `QUIRE_` + the name in capitals, dots as
underscores, overrides the file: QUIRE_MODEL_PATH for `model.path`. Unknown keys and wrong types fail at start.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quire.core import ModuleSpec, Scope, ScopeKind
from quire.errors import InvalidSetting, ProjectNotFound, UnknownSetting

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT_FILE = "quire.toml"
REGISTRY_FILE = "registry.db"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LONGEST_TITLE = 512  # as in the artifact format
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float = 2**53 - 1  # what every reader of JSON keeps exact


SETTINGS = (
    Setting("project.name", "project", "name of the project"),
    Setting("project.tenant", "local", "tenant that owns the project's modules"),
    Setting("model.path", "smollm2-135m-instruct", "the built-in model, a directory, a .gguf file or a Hub name"),
    Setting("model.home", "", "where fetched and converted models are kept; empty: the user's data directory"),
    Setting("model.dtype", "auto", "dtype of weights and KV", ("auto", "bfloat16", "float16", "float32")),
    Setting("model.device", "cpu", "where the model runs"),
    Setting(
        "model.threads", 0, "cores for one operation; 0: all. Part of the numerics of a module", least=0, most=1024
    ),
    Setting(
        "model.kernels",
        "auto",
        "arithmetic on the CPU: our own kernels (compiled once, needs g++), PyTorch's, or what suits the machine",
        ("auto", "native", "torch"),
    ),
    Setting(
        "model.weights",
        "auto",
        "int8 rounds the linear layers' weights: faster decoding, answers may differ. Part of the model's identity",
        ("auto", "int8"),
    ),
    Setting("layout.file", "", "layout file; empty: made from the model's chat template"),
    Setting(
        "build.prefill_chunk",
        2048,
        "tokens of one prefill step: bounds memory, part of a module's key",
        least=16,
    ),
    Setting("build.max_source_bytes", 64 << 20, "a larger source file is refused", least=1),
    Setting("build.shard_bytes", 1 << 30, "largest size of one KV file", least=1 << 20),
    Setting("store.path", ".quire", "directory of registry and artifacts, relative to the project"),
    Setting("pool.max_bytes", 8 << 30, "bytes of modules kept mapped while nobody uses them", least=0),
    Setting("engine.max_sequences", 64, "requests computed together; no more than engine.step_tokens", least=1),
    Setting("engine.step_tokens", 512, "new tokens computed in one step, over all requests", least=16),
    Setting(
        "engine.suffix_tokens",
        0,
        "room for the KV of questions, answers and idle sessions, in tokens; 0: a quarter of the memory that is free "
        "at the start, up to engine.max_sequences full contexts",
        least=0,
    ),
    Setting("engine.queue", 256, "requests waiting before the server says busy", least=1),
    Setting("engine.session_bytes", 1 << 30, "bytes of KV for idle sessions, within engine.suffix_tokens", least=0),
    Setting("server.host", "127.0.0.1", "address to listen on; the server has no authentication of its own yet"),
    Setting("server.port", 8642, "port to listen on; 0: any free one", least=0, most=65535),
    Setting("server.allow_unauthenticated", False, "listen beyond loopback although anyone may then ask"),
    Setting("server.drain_seconds", 30.0, "how long a shutdown waits for running answers", least=0),
    Setting("server.max_body_bytes", 4 << 20, "a larger request body is refused", least=1024),
)
BY_NAME = {s.name: s for s in SETTINGS}
SECTIONS = {s.name.split(".")[0] for s in SETTINGS}
MODULE_KEYS = {"title", "sources", "parent", "acl", "route"}
ROUTE_KEYS = {"keywords", "patterns", "priority"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Values by dotted name, the declared modules, and the directory that relative paths start from."""

    root: Path
    values: Mapping[str, Value] = field(default_factory=dict)
    modules: tuple[ModuleSpec, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name, BY_NAME[name].default)

    @property
    def state(self) -> Path:
        """Directory of registry and artifacts."""
        return self.root / str(self["store.path"])

    @property
    def registry_file(self) -> Path:
        """The catalogue of modules."""
        return self.state / REGISTRY_FILE

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
        if section == "modules":
            continue
        if section not in SECTIONS:
            raise _unknown(f"section [{section}]", section, {*SECTIONS, "modules"}, where)
        for key, value in _table(table, f"[{section}]", where).items():
            name = f"{section}.{key}"
            if name not in BY_NAME:
                raise _unknown(f"key {name!r}", name, set(BY_NAME), where)
            values[name] = _checked(BY_NAME[name], value, where)
    values |= _from_environ(environ)
    base = (project_file.parent if project_file else root or Path.cwd()).resolve()
    tenant = str(values.get("project.tenant", BY_NAME["project.tenant"].default))
    declared = _table(document.get("modules", {}), "[modules]", where)
    modules = tuple(_module(name, table, tenant, where) for name, table in declared.items())
    return Settings(base, values, modules)


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


def check_title(title: str, where: str) -> None:
    """Raises InvalidSetting for a title that no artifact can hold."""
    if len(title) > LONGEST_TITLE or _has_controls(title):
        raise InvalidSetting(
            f"title of {where} must be one line of at most {LONGEST_TITLE} characters, found {title!r:.90}",
            hint="shorten it; the text belongs into the sources",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(f"cannot read {path}: {error.strerror}", hint="check the path and its rights") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSetting(f"{path} is not valid TOML: {error}", hint="correct the line named") from error


def _table(value: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSetting(f"{name} in {where} must be a table, found {value!r}", hint="see docs/settings.md")
    return value


def _unknown(what: str, name: str, known: set[str], where: str) -> UnknownSetting:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
    return UnknownSetting(f"unknown {what} in {where}", hint=hint)


def _checked(setting: Setting, value: Any, where: str) -> Value:
    kind = type(setting.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    problem = ""
    if type(value) is not kind:
        problem = f"must be of type {kind.__name__}"
    elif setting.choices and value not in setting.choices:
        problem = f"must be one of {', '.join(setting.choices)}"
    elif setting.least is not None and not setting.least <= cast("float", value) <= setting.most:  # refuses nan too
        problem = f"must be between {setting.least:g} and {setting.most:g}"
    elif isinstance(value, str) and _has_controls(value):
        problem = "must not contain control characters"
    elif setting.name in {"project.name", "project.tenant"} and not NAME.fullmatch(str(value)):
        problem = "must be lower-case letters, digits, dots, dashes and underscores"
    if problem:
        raise InvalidSetting(f"{setting.name} in {where} {problem}, found {value!r}", hint=setting.help)
    return cast("Value", value)


def _from_environ(environ: Mapping[str, str]) -> dict[str, Value]:
    names = {"QUIRE_" + name.upper().replace(".", "_"): name for name in BY_NAME}
    values: dict[str, Value] = {}
    for variable, text in environ.items():
        if not variable.startswith("QUIRE_"):
            continue
        if variable not in names:
            raise _unknown(f"variable {variable}", variable, set(names), "the environment")
        setting = BY_NAME[names[variable]]
        values[setting.name] = _checked(setting, _parse(setting, text, variable), variable)
    return values


def _parse(setting: Setting, text: str, variable: str) -> Value:
    kind = type(setting.default)
    if kind is bool:
        if text.lower() not in {"true", "false", "1", "0"}:
            raise InvalidSetting(f"{variable} must be true or false, found {text!r}", hint=setting.help)
        return text.lower() in {"true", "1"}
    try:
        return kind(text)
    except ValueError:
        raise InvalidSetting(f"{variable} must be of type {kind.__name__}, found {text!r}", hint=setting.help) from None


def _module(name: str, table: Any, tenant: str, where: str) -> ModuleSpec:
    table = _table(table, f"[modules.{name}]", where)
    here = f"[modules.{name}] in {where}"
    if not NAME.fullmatch(name):
        raise InvalidSetting(
            f"module name {name!r} in {where} is not lower-case letters, digits and .-_", hint="rename it"
        )
    for key in table:
        if key not in MODULE_KEYS:
            raise _unknown(f"key {key!r}", key, MODULE_KEYS, here)
    route = _table(table.get("route", {}), f"[modules.{name}.route]", where)
    for key in route:
        if key not in ROUTE_KEYS:
            raise _unknown(f"key {key!r}", key, ROUTE_KEYS, f"[modules.{name}.route] in {where}")
    sources = _strings(table.get("sources", []), f"sources of {here}")
    if not sources:
        raise InvalidSetting(f"{here} has no sources", hint='give sources = ["file.md", "directory", "*.md"]')
    patterns = _strings(route.get("patterns", []), f"route.patterns of {here}")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidSetting(f"pattern {pattern!r} of {here}: {error}", hint="correct the expression") from error
    priority = route.get("priority", 0)
    if type(priority) is not int:
        raise InvalidSetting(
            f"route.priority of {here} must be an integer, found {priority!r}", hint="e.g. priority = 1"
        )
    title = _optional_string(table.get("title"), f"title of {here}") or name
    check_title(title, here)
    return ModuleSpec(
        module_id=name,
        sources=sources,
        parent=_optional_string(table.get("parent"), f"parent of {here}"),
        title=title,
        tenant=tenant,
        scope=parse_scope(_optional_string(table.get("acl"), f"acl of {here}") or f"tenant:{tenant}", where),
        keywords=_strings(route.get("keywords", []), f"route.keywords of {here}"),
        patterns=patterns,
        priority=priority,
    )


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def _strings(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v and "\0" not in v for v in value):
        raise InvalidSetting(f"{what} must be a list of non-empty strings, found {value!r}", hint='e.g. ["a", "b"]')
    return tuple(value)


def _optional_string(value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidSetting(f"{what} must be a string, found {value!r}", hint="put it in quotes")
    return value or None
