"""JSON values as they were written: keys in document order, numbers in their own digits, limited depth.

Numbers keep their text because a float would change it (1.10, 1e999, 0.1000000000000000055).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import NoReturn, TypeAlias

from quire.errors import SourceMalformed

MAX_DEPTH = 100
MAX_VALUES = 1_000_000

_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


class Number(str):
    """A number as it was written."""

    __slots__ = ()


Value: TypeAlias = "bool | str | Number | list[Value] | dict[str, Value] | None"


def too_deep(name: str) -> SourceMalformed:
    """The error for values nested beyond MAX_DEPTH."""
    return SourceMalformed(
        f"{name}: expected at most {MAX_DEPTH} levels of nesting, found more",
        hint="flatten the file; nesting this deep is rarely meant for a reader",
    )


def parse_json(text: str, name: str) -> Value:
    """One JSON document (RFC 8259) as a value.

    Raises SourceMalformed for a syntax error with its line and column, a key given twice, NaN or Infinity, or
    nesting beyond MAX_DEPTH.
    """

    def unique(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
        members = dict(pairs)
        if len(members) != len(pairs):
            counted = Counter(key for key, _ in pairs)
            twice = counted.most_common(1)[0][0]
            raise SourceMalformed(f"{name}: expected each key once in an object, found {twice!r} twice")
        return members

    def refuse(constant: str) -> NoReturn:
        raise SourceMalformed(f"{name}: expected a JSON number, found {constant}", hint="use null or a string")

    try:
        value: Value = json.loads(
            text, object_pairs_hook=unique, parse_int=Number, parse_float=Number, parse_constant=refuse
        )
    except json.JSONDecodeError as error:
        raise SourceMalformed(
            f"{name}: expected JSON, found a syntax error at line {error.lineno}, column {error.colno}: {error.msg}",
            hint="check the file with: python -m json.tool",
        ) from error
    except RecursionError as error:
        raise too_deep(name) from error
    _require_shallow(value, name)
    return value


def _require_shallow(value: Value, name: str) -> None:
    level: list[Value] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for container in level for child in _children(container) if isinstance(child, dict | list)]
        if not level:
            return
    raise too_deep(name)


def _children(value: Value) -> list[Value]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def pretty_json(value: Value, indent: str = "") -> str:
    """`value` as JSON, two spaces a level, keys in document order, visible characters unescaped."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        members = (f"{inner}{_quote(k)}: {pretty_json(v, inner)}" for k, v in value.items())
        return "{\n" + ",\n".join(members) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + pretty_json(item, inner) for item in value) + f"\n{indent}]"
    return compact_json(value)


def compact_json(value: Value) -> str:
    """`value` as JSON on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(k)}: {compact_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(compact_json, value)) + "]"
    if isinstance(value, Number):
        return str(value)
    return _quote(value) if isinstance(value, str) else json.dumps(value)


def _quote(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", quoted)
