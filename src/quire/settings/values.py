"""What a value must be, whichever table it stands in."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any, cast

from quire.errors import InvalidSetting, UnknownSetting
from quire.settings.addresses import shown

if TYPE_CHECKING:
    from quire.settings.table import Setting, Value

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LONGEST_TITLE = 512  # as in the artifact format


def checked(setting: Setting, value: Any, where: str) -> Value:
    kind = type(setting.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple:
        return strings(value, f"{setting.name} in {where}")
    problem = ""
    if type(value) is not kind:
        problem = f"must be of type {kind.__name__}"
    elif setting.choices and value not in setting.choices:
        problem = f"must be one of {', '.join(setting.choices)}"
    elif setting.least is not None and not setting.least <= cast("float", value) <= setting.most:  # refuses nan too
        problem = f"must be between {setting.least:g} and {setting.most:g}"
    elif isinstance(value, str) and has_controls(value):
        problem = "must not contain control characters"
    elif setting.name in {"project.name", "project.tenant"} and not NAME.fullmatch(str(value)):
        problem = "must be lower-case letters, digits, dots, dashes and underscores"
    elif setting.expects and (expected := setting.expects(str(value))):
        problem = f"must be {expected}"
    if problem:
        found = _shown(setting, value)
        raise InvalidSetting(f"{setting.name} in {where} {problem}, found {found}", hint=setting.help)
    return cast("Value", value)


def _shown(setting: Setting, value: Any) -> str:
    if not isinstance(value, str) or not (setting.secret or setting.expects):
        return "something else" if setting.secret else repr(value)
    return shown(value, secret=setting.secret)


def parsed(setting: Setting, text: str, variable: str) -> Value:
    kind = type(setting.default)
    if kind is bool:
        if text.lower() not in {"true", "false", "1", "0"}:
            raise InvalidSetting(f"{variable} must be true or false, found {text!r}", hint=setting.help)
        return text.lower() in {"true", "1"}
    try:
        return json.loads(text) if kind is tuple else kind(text)
    except ValueError:
        raise InvalidSetting(f"{variable} must be of type {kind.__name__}, found {text!r}", hint=setting.help) from None


def check_title(title: str, where: str) -> None:
    """Raises InvalidSetting for a title that no artifact can hold."""
    if len(title) > LONGEST_TITLE or has_controls(title):
        raise InvalidSetting(
            f"title of {where} must be one line of at most {LONGEST_TITLE} characters, found {title!r:.90}",
            hint="shorten it; the text belongs into the sources",
        )


def table_of(value: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSetting(f"{name} in {where} must be a table, found {value!r}", hint="see docs/settings.md")
    return value


def strings(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v and "\0" not in v for v in value):
        raise InvalidSetting(f"{what} must be a list of non-empty strings, found {value!r}", hint='e.g. ["a", "b"]')
    return tuple(value)


def optional_string(value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidSetting(f"{what} must be a string, found {value!r}", hint="put it in quotes")
    return value or None


def unknown(what: str, name: str, known: set[str], where: str) -> UnknownSetting:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
    return UnknownSetting(f"unknown {what} in {where}", hint=hint)


def has_controls(text: str) -> bool:
    return any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)
