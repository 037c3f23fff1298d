"""MCP tool definitions as canonical text: the same tools give the same text, in whatever order a server lists them.

Each tool is one line of JSON within a fence, with escaped line ends, so that no description can pose as another tool or
as prose around it. Specification: https://modelcontextprotocol.io/specification/2025-06-18/server/tools
"""

from __future__ import annotations

import re
from typing import NoReturn

from quire.errors import SourceMalformed
from quire.sources.document import Extract
from quire.sources.values import Value, compact_json

TITLE = "Tools"
MOST_TOOLS = 1000
_NAME = re.compile(r"[A-Za-z0-9_.\-/]{1,128}")
# What a person does not see and a model reads: zero-width, directional and tag characters.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
_RESULT = {"tools", "nextCursor", "_meta"}  # members of a result of tools/list
_SETS = {"required", "type"}  # lists of these keywords of JSON Schema mean the same in any order
_PROSE = {"title", "description"}


def tools_result(value: Value) -> dict[str, Value] | None:
    """The result of `tools/list`, also out of its JSON-RPC response; None for JSON that is something else."""
    if isinstance(value, dict) and value.get("jsonrpc") == "2.0":
        value = value.get("result")
    if isinstance(value, dict) and isinstance(value.get("tools"), list) and set(value) <= _RESULT:
        return value
    return None


def tool_registry(result: dict[str, Value], name: str) -> Extract:
    """The tools by name, each with title, description, input and output schema and annotations; nothing else of them.

    Raises SourceMalformed for a list that is not complete, a name given twice or not allowed, a member of another kind
    than specified, a schema that refers to something outside itself, and text with invisible characters.
    """
    reading, tools = _Reading(name), result["tools"]
    if result.get("nextCursor") is not None:
        reading.refuse("the whole list, found a nextCursor", "fetch the pages that are missing, and join their tools")
    if not isinstance(tools, list) or not 0 < len(tools) <= MOST_TOOLS:
        reading.refuse(f"a list of 1 to {MOST_TOOLS} tools", "make several modules of more")
    lines: dict[str, str] = {}
    for at, tool in enumerate(tools, start=1):
        one, line = reading.tool(tool, at)
        if one in lines:
            reading.refuse("each tool once, found it twice", "rename one of them, or leave it out")
        lines[one] = line
    return Extract(
        "\n".join((f"# {TITLE}", "", "```json", *(lines[one] for one in sorted(lines)), "```")), "mcp", TITLE
    )


class _Reading:
    """Of one file; remembers which tool it is at, for errors."""

    def __init__(self, name: str) -> None:
        self._where = self._name = name

    def refuse(self, expected: str, hint: str = "see the specification of MCP's tools/list") -> NoReturn:
        raise SourceMalformed(f"{self._where}: expected {expected}", hint=hint)

    def tool(self, value: Value, at: int) -> tuple[str, str]:
        """A tool's name and its line."""
        self._where = f"{self._name}, tool {at}"
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(value, dict) or type(name) is not str or not _NAME.fullmatch(name):
            self.refuse(f"an object with a name of 1 to 128 letters, digits and _ - . /, found the name {name!r:.90}")
        self._where = f"{self._name}, tool {name}"
        told: dict[str, Value] = {"name": name}
        for key in ("title", "description"):
            if (text := value.get(key)) is not None:
                told[key] = self._prose(text, key)
        for key in ("inputSchema", "outputSchema"):
            if key in value or key == "inputSchema":
                told[key] = self._schema(value.get(key), key)
        if (annotations := value.get("annotations")) is not None:
            if not isinstance(annotations, dict):
                self.refuse("annotations that are an object")
            told["annotations"] = self._sorted(annotations, "annotations")
        return name, compact_json(told)

    def _schema(self, schema: Value, key: str) -> Value:
        if not isinstance(schema, dict) or schema.get("type") != "object":
            self.refuse(f'an {key} of the type "object"', 'for a tool without input: {"type": "object"}')
        return self._sorted(schema, key)

    def _sorted(self, value: Value, key: str, within: str = "") -> Value:
        """`value` with the members of objects by name, and of lists that stand for sets by value."""
        if isinstance(value, dict):
            if within != "properties" and "$ref" in value:
                self._check_reference(value["$ref"], key)
            names = sorted(self._visible(name, key) for name in value)
            return {name: self._sorted(value[name], key, name if within != "properties" else "") for name in names}
        if isinstance(value, list):
            members = [self._sorted(member, key) for member in value]
            is_set = within in _SETS and all(type(member) is str for member in members)
            return sorted(members, key=str) if is_set else members
        if type(value) is not str:
            return value
        return self._prose(value, key) if within in _PROSE else self._visible(value, key)

    def _prose(self, text: Value, key: str) -> str:
        """Text for people, without white space at the ends of its lines and its own."""
        if type(text) is not str:
            self.refuse(f"a {key} that is text")
        return "\n".join(line.rstrip() for line in self._visible(text, key).strip().splitlines())

    def _visible(self, text: str, key: str) -> str:
        if found := _INVISIBLE.search(text):
            self.refuse(
                f"text in {key} that a reviewer can see, found U+{ord(found.group()):04X}",
                "remove the character; a reviewer cannot see it but a model would read it",
            )
        return text

    def _check_reference(self, reference: Value, key: str) -> None:
        if type(reference) is not str or not reference.startswith("#"):
            self.refuse(f"references within the {key}, found $ref {reference!r:.90}", "write the schema out")
