"""Glob patterns over posix paths, the same on every Python and every file system.

`*` and `?` stay within a name, `**` as a whole part crosses directories, `[...]` is a set of characters.
"""

from __future__ import annotations

import re

_MAGIC = re.compile(r"[*?\[]")


def has_magic(pattern: str) -> bool:
    """Whether `pattern` has characters that match more than themselves."""
    return _MAGIC.search(pattern) is not None


def fixed_prefix(pattern: str) -> tuple[str, str]:
    """The leading parts without magic, and the rest: ``docs/api/*.md`` gives ("docs/api", "*.md")."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if has_magic(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."), "/".join(parts[first:])


def glob_pattern(glob: str) -> re.Pattern[str]:
    """A regular expression whose full match of a relative posix path is a match of `glob`."""
    parts = glob.split("/")
    text = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            text += ".+" if last else "(?:[^/]+/)*"
        else:
            text += _name_pattern(part) + ("" if last else "/")
    return re.compile(text)


def _name_pattern(part: str) -> str:
    text, position = "", 0
    for found in re.finditer(r"\*+|\?|\[(!?)(\]?[^\]]*)\]", part):
        text += re.escape(part[position : found.start()])
        position = found.end()
        if found.group().startswith("*"):
            text += "[^/]*"
        elif found.group() == "?":
            text += "[^/]"
        else:
            text += _set_pattern(found.group(2), negated=bool(found.group(1)))
    return text + re.escape(part[position:])


def _set_pattern(members: str, *, negated: bool) -> str:
    """A character class; a range whose ends are the wrong way round matches nothing, as in fnmatch."""
    escaped = ""
    for found in re.finditer(r"(.)-(.)|.", members, re.DOTALL):
        low, high = found.group(1), found.group(2)
        if low is None:
            escaped += re.escape(found.group())
        elif low <= high:
            escaped += f"{re.escape(low)}-{re.escape(high)}"
    if not escaped:
        return "[^/]" if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{escaped}]"
