"""JSON Schema as OpenAPI uses it, in words: one line for a type, a list for the members of an object."""

from __future__ import annotations

from collections.abc import Iterator

from quire.sources.canonical import one_line
from quire.sources.values import Value, compact_json

_COMBINED = {"oneOf": " | ", "anyOf": " | ", "allOf": " & "}
_BOUNDS = (
    "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "default", "example",
)  # fmt: skip


def type_of(schema: Value) -> str:
    """One line: `string, format uuid`, `array of Pet`, `Cat | Dog`, `"a" | "b"`. A $ref gives its name."""
    if not isinstance(schema, dict) or not schema:
        return "nothing" if schema is False else "any"
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return reference.rsplit("/", 1)[-1].replace("~1", "/").replace("~0", "~")
    return ", ".join([_kind(schema), *_bounds(schema)])


def _kind(schema: dict[str, Value]) -> str:
    values = schema.get("enum")
    if isinstance(values, list):
        return " | ".join(map(compact_json, values))
    if "const" in schema:
        return compact_json(schema["const"])
    for keyword, sign in _COMBINED.items():
        options = schema.get(keyword)
        if isinstance(options, list) and options:
            return sign.join(map(type_of, options))
    kind = schema.get("type", "object" if "properties" in schema else "any")
    names = " | ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    if "array" in names and "items" in schema:
        names = names.replace("array", f"array of {type_of(schema['items'])}")
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict) and extra:
        names = f"{names} with values {type_of(extra)}"
    return f"{names} | null" if schema.get("nullable") is True else names


def _bounds(schema: dict[str, Value]) -> Iterator[str]:
    for keyword in _BOUNDS:
        if keyword in schema:
            value = schema[keyword]
            yield f"{keyword} {value if keyword == 'format' else compact_json(value)}"
    for keyword, word in (
        ("readOnly", "read only"),
        ("writeOnly", "write only"),
        ("deprecated", "deprecated"),
    ):
        if schema.get(keyword) is True:
            yield word


def schema_lines(schema: Value, indent: str) -> Iterator[str]:
    """The members of an object schema as a nested list, through inline arrays and combinations, not $ref."""
    if not isinstance(schema, dict) or "$ref" in schema:
        return
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    properties = schema.get("properties")
    for name, member in (properties if isinstance(properties, dict) else {}).items():
        described = member.get("description") if isinstance(member, dict) else None
        after = f": {one_line(described)}" if isinstance(described, str) and described.strip() else ""
        yield f"{indent}- `{name}` ({type_of(member)}{', required' if name in needed else ''}){after}"
        yield from schema_lines(member, indent + "  ")
    for inner in _inline(schema):
        yield from schema_lines(inner, indent)


def _inline(schema: dict[str, Value]) -> Iterator[Value]:
    yield from (schema[key] for key in ("items", "additionalProperties") if key in schema)
    for keyword in _COMBINED:
        options = schema.get(keyword)
        yield from options if isinstance(options, list) else ()
