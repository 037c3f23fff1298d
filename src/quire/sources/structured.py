"""JSON and YAML: OpenAPI becomes a reference, MCP tools a registry, other JSON is laid out anew, other YAML is code."""

from __future__ import annotations

import re

from quire.sources.code import read_code
from quire.sources.document import Extract
from quire.sources.openapi import openapi_reference
from quire.sources.opening import decode
from quire.sources.tools import tool_registry, tools_result
from quire.sources.values import Value, parse_json, pretty_json
from quire.sources.yaml_values import parse_yaml

_OPENAPI_YAML = re.compile(r"""^["']?openapi["']?\s*:\s*["']?3\.""", re.MULTILINE)


def read_json(data: bytes, name: str) -> Extract:
    """OpenAPI 3 as a markdown reference, a result of MCP's `tools/list` as a registry of tools; any other JSON with two
    spaces a level, keys in document order.

    Raises SourceNotText or SourceMalformed.
    """
    value = parse_json(decode(data, name), name)
    if isinstance(value, dict) and _is_openapi(value):
        return openapi_reference(value, name)
    if (result := tools_result(value)) is not None:
        return tool_registry(result, name)
    return Extract(pretty_json(value), "json")


def read_yaml(data: bytes, name: str) -> Extract:
    """OpenAPI 3 as a markdown reference; any other YAML as code, comments and all.

    Only OpenAPI is parsed: templates and files of several documents are knowledge, and not always valid YAML.
    Raises SourceNotText, SourceEmpty or SourceMalformed.
    """
    text = decode(data, name)
    if _OPENAPI_YAML.search(text):
        value = parse_yaml(text, name)
        if isinstance(value, dict) and _is_openapi(value):
            return openapi_reference(value, name)
    return read_code(data, name)


def _is_openapi(value: dict[str, Value]) -> bool:
    return str(value.get("openapi", "")).startswith("3.")
