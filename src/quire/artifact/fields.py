"""Strict reading of JSON that nobody vouches for: every field typed, bounded, and named in its refusal."""

from __future__ import annotations

import json
import math
import re
import reprlib
import unicodedata
from collections.abc import Callable, Collection
from typing import NoReturn, TypeVar, cast

from quire.artifact.identity import canonical, is_digest
from quire.errors import FormatUnsupported, ManifestInvalid

SAFE_INTEGER = 2**53 - 1  # the largest that every JSON reader keeps exact
DEPTH_LIMIT = 8

_TAGGED = re.compile(r"[a-z0-9]{1,16}:[0-9a-f]{16,128}")
_Text = TypeVar("_Text", bound=str)
_Part = TypeVar("_Part")

# Plain repr walks all of a hostile value: a megabyte of text, or a thousand levels of lists.
_show = reprlib.Repr()
_show.maxstring = _show.maxother = _show.maxlong = 90


def refuse(where: str, expected: str, found: object) -> NoReturn:
    raise ManifestInvalid(
        f"{where}: expected {expected}, found {_show.repr(found)}",
        hint="compile the module again, or pull a clean copy of the artifact",
    )


class Fields:
    """One JSON object. Each reader takes a field out; `close` refuses what is left over."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        self._left: dict[str, object] = dict(value)
        self.where = where

    def take(self, name: str) -> object:
        """The raw value. `ManifestInvalid` when it is absent, as from every reader below."""
        if name not in self._left:
            refuse(self._at(name), "a value", "nothing")
        return self._left.pop(name)

    def text(self, name: str, *, limit: int = 256, empty: bool = False) -> str:
        """A string of at most `limit` characters, none of them a control character."""
        value = self.take(name)
        if not isinstance(value, str) or len(value) > limit or not (value or empty):
            refuse(self._at(name), f"text of {0 if empty else 1} to {limit} characters", value)
        if any(unicodedata.category(character) == "Cc" for character in value):
            refuse(self._at(name), "text without control characters", value)
        return value

    def matching(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            refuse(self._at(name), expected, value)
        return value

    def digest(self, name: str) -> str:
        value = self.take(name)
        if not is_digest(value):
            refuse(self._at(name), "a digest b3:<64 hex digits>", value)
        return cast(str, value)

    def tagged(self, name: str) -> str:
        """A checksum or fingerprint of any algorithm: ``<tag>:<hex digits>``."""
        return self.matching(name, _TAGGED, "a tagged checksum such as b3:<hex digits>")

    def integer(self, name: str, low: int, high: int = SAFE_INTEGER) -> int:
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            refuse(self._at(name), f"an integer of {low} to {high}", value)
        return value

    def magnitude(self, name: str) -> float:
        """A finite number, zero or more."""
        value = self.take(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            refuse(self._at(name), "a number, zero or more", value)
        return float(value)

    def one_of(self, name: str, choices: Collection[_Text]) -> _Text:
        value = self.take(name)
        for choice in choices:
            if value == choice:
                return choice
        refuse(self._at(name), f"one of {', '.join(choices)}", value)

    def json_object(self, name: str) -> dict[str, object]:
        """An object with any fields, at most `DEPTH_LIMIT` levels deep."""
        value = self.take(name)
        if not isinstance(value, dict):
            refuse(self._at(name), "an object", value)
        if not _is_shallow(value, DEPTH_LIMIT):
            refuse(self._at(name), f"at most {DEPTH_LIMIT} levels", value)
        return value

    def inner(self, name: str, read: Callable[[Fields], _Part]) -> _Part:
        """An object that `read` knows all fields of."""
        return self._part(self.take(name), self._at(name), read)

    def inner_or_none(self, name: str, read: Callable[[Fields], _Part]) -> _Part | None:
        value = self.take(name)
        return None if value is None else self._part(value, self._at(name), read)

    def each(self, name: str, read: Callable[[Fields], _Part], *, limit: int) -> tuple[_Part, ...]:
        """A list of at most `limit` objects."""
        value = self.take(name)
        if not isinstance(value, list) or len(value) > limit:
            refuse(self._at(name), f"a list of at most {limit}", value)
        return tuple(self._part(item, f"{self._at(name)}[{i}]", read) for i, item in enumerate(value))

    def texts(self) -> dict[str, str]:
        """All that is left: any names, each with a text."""
        return {name: self.text(name) for name in list(self._left)}

    def close(self) -> None:
        if self._left:
            refuse(self.where, "only the fields of this format version", sorted(self._left)[:5])

    @staticmethod
    def _part(value: object, where: str, read: Callable[[Fields], _Part]) -> _Part:
        fields = Fields(value, where)
        part = read(fields)
        fields.close()
        return part

    def _at(self, name: str) -> str:
        return f"{self.where}.{name}"


def read_canonical(data: bytes, *, limit: int, version: int) -> Fields:
    """The document in `data`, which must be one canonical JSON object (RFC 8785) of at most `limit` bytes.

    `FormatUnsupported` when its `format_version` is above `version`, `ManifestInvalid` for all else.
    """
    if len(data) > limit:
        refuse("manifest", f"at most {limit} bytes", f"{len(data)} bytes")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        refuse("manifest", "UTF-8 JSON", str(error))
    fields = Fields(document, "manifest")
    written = document.get("format_version")
    if isinstance(written, int) and written > version:
        raise FormatUnsupported(
            f"expected format version {version} or older, found {written}",
            hint="this module was compiled by a newer Quire: upgrade, or compile it again here",
        )
    if canonical(document) != data:
        refuse("manifest", "canonical JSON (RFC 8785)", "the same document written another way")
    return fields


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            refuse("manifest", "every name once", name)
        found[name] = value
    return found


def _integer(digits: str) -> int | float:
    # RFC 8785 writes large floats without an exponent, so digits alone do not make an integer.
    return _finite(digits) if len(digits) > 16 or abs(int(digits)) > SAFE_INTEGER else int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        refuse("manifest", "finite numbers", digits[:40])
    return number


def _is_shallow(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)
