"""A project's own files: quire.toml, its sources, its layout, its golden questions."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quire.backup.index import check_name
from quire.errors import InvalidSetting, SourceError
from quire.patterns import compiled
from quire.settings import PROJECT_FILE, SETTINGS, load_settings
from quire.sources import collect

if TYPE_CHECKING:
    from quire.settings import Settings

GOLDEN = "golden"


def project_files(settings: Settings) -> tuple[dict[str, Path], list[str]]:
    """Files by their path within the project, and the names of what lies outside of it or cannot be read now.

    Raises:
        InvalidSetting: quire.toml holds a password.
    """
    root = settings.root
    found: set[str] = set()
    left_out: list[str] = []
    if (root / PROJECT_FILE).is_file():
        _check_secrets(root / PROJECT_FILE)
        found.add(PROJECT_FILE)
    if layout := settings["layout.file"]:
        found.add(str(layout))
    for spec in settings.modules:
        found |= set(spec.golden)
        try:
            found |= {document.path for document in collect(root, spec.sources)}
        except SourceError as error:
            left_out.append(f"sources of {spec.module_id}: {error.message}")
    golden = root / GOLDEN
    found |= {path.relative_to(root).as_posix() for path in golden.rglob("*.yaml")} if golden.is_dir() else set()
    files: dict[str, Path] = {}
    for name in sorted(found):
        try:
            check_name(f"project/{name}")
        except ValueError:
            left_out.append(name)
            continue
        if (root / name).is_file():
            files[name] = root / name
        else:
            left_out.append(name)
    return files, left_out


def settings_in(staged: Path, root: Path) -> Settings:
    """The settings for a project in `root`: by its own quire.toml if it has one, else by the one in `staged`.

    Raises:
        InvalidSetting, UnknownSetting.
    """
    if (root / PROJECT_FILE).is_file():
        return load_settings(root / PROJECT_FILE, os.environ)
    if (staged / PROJECT_FILE).is_file():
        return replace(load_settings(staged / PROJECT_FILE, os.environ), root=root)
    return load_settings(None, os.environ, root=root)


# Before an @, whatever characters it has, and in the query, where libpq and redis-py look for one, too.
_IN_URL = r"(?i)://[^@]*:[^@]*@|[?&](?:ssl)?password="


def _check_secrets(file: Path) -> None:
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    for setting in SETTINGS:
        section, _, key = setting.name.partition(".")
        value = document.get(section, {}).get(key, "")
        if setting.secret and isinstance(value, str) and compiled(_IN_URL).matches(value):
            raise InvalidSetting(
                f"{setting.name} in {file} holds a password, which must not go into an export",
                hint=f"put it into the variable QUIRE_{setting.name.upper().replace('.', '_')}",
            )
