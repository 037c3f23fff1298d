"""OpenAPI 3.0 and 3.1 as a markdown reference: what a caller needs, in document order.

Schemas are referred to by name and written out once, under `## Schemas`, so recursive ones end.
Specification: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterator

from quire.errors import SourceMalformed, SourceTooLarge
from quire.sources.canonical import one_line
from quire.sources.document import Extract
from quire.sources.opening import MAX_BYTES
from quire.sources.schema import schema_lines, type_of
from quire.sources.values import Value, compact_json

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")


def openapi_reference(root: dict[str, Value], name: str) -> Extract:
    """The reference of an OpenAPI 3 description; the title is that of its `info`.

    Raises SourceMalformed for a member of another kind than specified or a local $ref that names nothing, and
    SourceTooLarge for a reference beyond MAX_BYTES characters.
    """
    description = _Description(root, name)
    title = one_line(description.text(description.mapping(root, "info", "#"), "title")) or name
    return Extract(_bounded(description.lines(title), name), "openapi", title)


def _bounded(lines: Iterator[str], name: str) -> str:
    """The lines as one text, of at most MAX_BYTES characters: what a $ref names is repeated at every use."""
    kept: list[str] = []
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line) + 1
        if size > MAX_BYTES:
            raise SourceTooLarge(
                f"{name}: expected a reference of at most {MAX_BYTES} characters, found more with every $ref resolved",
                hint="describe parts of the API in files of their own",
            )
    return "\n".join(kept)


class _Description:
    """Walks the description; `where` is the JSON pointer of what is being read, for errors."""

    def __init__(self, root: dict[str, Value], name: str) -> None:
        self._root = root
        self._name = name

    def lines(self, title: str) -> Iterator[str]:
        info = self.mapping(self._root, "info", "#")
        yield f"# {title}"
        yield from self._paragraph(f"Version {self.text(info, 'version')}" if "version" in info else "")
        yield from self._paragraph(self.text(info, "description") or self.text(info, "summary"))
        yield from self._servers()
        yield from self._security()
        for group in ("paths", "webhooks"):
            for path, item in self.mappings(self._root, group, "#"):
                yield from self._path(path, self.resolved(item, f"#/{group}/{path}"), f"#/{group}/{path}")
        yield from self._schemas()

    def _paragraph(self, text: str) -> Iterator[str]:
        if text:
            yield from ("", text)

    def _servers(self) -> Iterator[str]:
        servers = self.sequence(self._root, "servers", "#")
        if servers:
            yield from ("", "Servers:", "")
        for server in servers:
            yield _item(f"`{self.text(server, 'url')}`", self.text(server, "description"))

    def _security(self) -> Iterator[str]:
        schemes = list(self.mappings(self.mapping(self._root, "components", "#"), "securitySchemes", "#/components"))
        if schemes:
            yield from ("", "Authentication:", "")
        for name, scheme in schemes:
            resolved = self.resolved(scheme, f"#/components/securitySchemes/{name}")
            kind = " ".join(filter(None, (self.text(resolved, key) for key in ("type", "scheme", "in", "name"))))
            yield _item(f"`{name}` ({kind})", self.text(resolved, "description"))

    def _path(self, path: str, item: dict[str, Value], where: str) -> Iterator[str]:
        for method, operation in item.items():
            if method in _METHODS:
                here = f"{where}/{method}"
                if not isinstance(operation, dict):
                    raise self._unexpected(here, "an object", operation)
                yield from ("", f"## {method.upper()} {path}")
                yield from self._operation(operation, self.sequence(item, "parameters", where), here)

    def _operation(self, operation: dict[str, Value], shared: list[dict[str, Value]], where: str) -> Iterator[str]:
        if operation.get("deprecated") is True:
            yield from self._paragraph("Deprecated.")
        yield from self._paragraph(self.text(operation, "summary"))
        yield from self._paragraph(self.text(operation, "description"))
        if "operationId" in operation:
            yield from self._paragraph(f"Operation: `{self.text(operation, 'operationId')}`")
        if "security" in operation:
            yield from self._paragraph(f"Security: {self._alternatives(operation, where)}")
        yield from self._parameters(self._overriding(shared, operation, where), where)
        if "requestBody" in operation:
            body = self.resolved(self.mapping(operation, "requestBody", where), f"{where}/requestBody")
            needed = " (required)" if body.get("required") is True else ""
            yield from ("", f"Request body{needed}:{_after(self.text(body, 'description'))}", "")
            yield from self._content(body, f"{where}/requestBody", "")
        yield from self._responses(operation, where)

    def _alternatives(self, operation: dict[str, Value], where: str) -> str:
        required = self.sequence(operation, "security", where)
        return " or ".join(" and ".join(f"`{name}`" for name in option) or "none" for option in required) or "none"

    def _overriding(
        self, shared: list[dict[str, Value]], operation: dict[str, Value], where: str
    ) -> list[dict[str, Value]]:
        """The operation's parameters after the path's; the same name and place replaces the path's."""
        listed = [*shared, *self.sequence(operation, "parameters", where)]
        resolved = [self.resolved(parameter, f"{where}/parameters") for parameter in listed]
        return list({(self.text(p, "name"), self.text(p, "in")): p for p in resolved}.values())

    def _parameters(self, parameters: list[dict[str, Value]], where: str) -> Iterator[str]:
        if parameters:
            yield from ("", "Parameters:", "")
        for parameter in parameters:
            schema = parameter.get("schema", {})
            needed = ", required" if parameter.get("required") is True else ""
            label = f"`{self.text(parameter, 'name')}` ({self.text(parameter, 'in')}, {type_of(schema)}{needed})"
            yield _item(label, self.text(parameter, "description"))
            yield from self._content(parameter, f"{where}/parameters", "  ")

    def _responses(self, operation: dict[str, Value], where: str) -> Iterator[str]:
        responses = list(self.mappings(operation, "responses", where))
        if responses:
            yield from ("", "Responses:", "")
        for status, response in responses:
            here = f"{where}/responses/{status}"
            resolved = self.resolved(response, here)
            yield _item(f"`{status}`", self.text(resolved, "description"))
            yield from self._content(resolved, here, "  ")

    def _content(self, owner: dict[str, Value], where: str, indent: str) -> Iterator[str]:
        for media_type, content in self.mappings(owner, "content", where):
            yield f"{indent}- {media_type}: {type_of(content.get('schema', {}))}"
            yield from schema_lines(content.get("schema", {}), indent + "  ")

    def _schemas(self) -> Iterator[str]:
        components = self.mapping(self._root, "components", "#")
        schemas = self.mapping(components, "schemas", "#/components")
        if schemas:
            yield from ("", "## Schemas")
        for name, schema in schemas.items():
            yield from ("", f"### {name}", "")
            yield _after(type_of(schema)).strip()
            described = self.text(schema, "description") if isinstance(schema, dict) else ""
            yield from self._paragraph(described)
            members = list(schema_lines(schema, ""))
            yield from ("", *members) if members else ()

    def resolved(self, value: dict[str, Value], where: str) -> dict[str, Value]:
        """What a chain of $ref ends at; one into another file stands for itself, by name."""
        seen: set[str] = set()
        while isinstance(reference := value.get("$ref"), str):
            if not reference.startswith("#"):
                return {"description": f"see {reference}", **value}
            if reference in seen:
                raise SourceMalformed(f"{self._name}: expected $ref to end, found a cycle through {reference}")
            seen.add(reference)
            value = self._target(reference, where)
        return value

    def _target(self, reference: str, where: str) -> dict[str, Value]:
        target: Value = self._root
        for part in reference.lstrip("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise SourceMalformed(
                f"{self._name}: expected $ref at {where} to name an object, found nothing at {reference}",
                hint="add the component, or bundle the description into one file",
            )
        return target

    def text(self, owner: dict[str, Value], key: str) -> str:
        value = owner.get(key)
        return value if isinstance(value, str) else "" if value is None else compact_json(value)

    def mapping(self, owner: dict[str, Value], key: str, where: str) -> dict[str, Value]:
        value = owner.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._unexpected(f"{where}/{key}", "an object", value)
        return value

    def mappings(self, owner: dict[str, Value], key: str, where: str) -> Iterator[tuple[str, dict[str, Value]]]:
        """The members of an object of objects; extensions (x-...) are left out."""
        for name, value in self.mapping(owner, key, where).items():
            if name.startswith("x-"):
                continue
            if not isinstance(value, dict):
                raise self._unexpected(f"{where}/{key}/{name}", "an object", value)
            yield name, value

    def sequence(self, owner: dict[str, Value], key: str, where: str) -> list[dict[str, Value]]:
        value = owner.get(key)
        items = value if isinstance(value, list) else [] if value is None else [value]
        objects = [item for item in items if isinstance(item, dict)]
        if len(objects) != len(items) or isinstance(value, dict):
            raise self._unexpected(f"{where}/{key}", "a list of objects", value)
        return objects

    def _unexpected(self, where: str, expected: str, found: Value) -> SourceMalformed:
        return SourceMalformed(
            f"{self._name}: expected {expected} at {where}, found {compact_json(found)[:60]}",
            hint="check the file with an OpenAPI validator",
        )


def _after(text: str) -> str:
    return f" {one_line(text)}" if text else ""


def _item(label: str, description: str) -> str:
    return f"- {label}{':' if description else ''}{_after(description)}"
