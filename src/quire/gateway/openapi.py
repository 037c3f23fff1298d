"""GET /v1/openapi.json: the API for programs that read OpenAPI 3.1, made from what checks the requests."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire import __version__
from quire.gateway.response_schemas import RESPONSES

if TYPE_CHECKING:
    from quire.gateway.endpoints import Endpoint

SCHEMAS = "#/components/schemas/"


async def get_openapi(_request: Request) -> Response:
    """This document."""
    return JSONResponse(document())


@cache
def document() -> dict[str, Any]:
    """The whole of it. Do not change it: it is made once."""
    from quire.gateway.endpoints import ENDPOINTS, OPEN_ENDPOINTS  # which name this module

    schemas = dict(RESPONSES)
    paths: dict[str, Any] = {}
    for endpoints, asks in ((ENDPOINTS, True), (OPEN_ENDPOINTS, False)):
        for endpoint in endpoints:
            path = endpoint.path.replace(":path", "")
            paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, schemas, asks=asks)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quire",
            "version": __version__,
            "description": "Answers from compiled knowledge, in OpenAI's protocol. docs/http.md has the words.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, or a token of the issuer"}
            },
        },
    }


def _operation(endpoint: Endpoint, schemas: dict[str, Any], *, asks: bool) -> dict[str, Any]:
    summary = (endpoint.answer.__doc__ or "").partition(" Raises ")[0].strip().splitlines()[0]
    operation: dict[str, Any] = {
        "operationId": endpoint.answer.__name__,
        "summary": summary,
        "responses": _responses(endpoint),
        "security": [{"bearer": []}] if asks else [],
    }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)", endpoint.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in endpoint.asked.items()]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.takes is not None:
        schema = endpoint.takes.model_json_schema(ref_template=SCHEMAS + "{model}")
        parts = {endpoint.takes.__name__: schema, **schema.pop("$defs", {})}
        schemas.update({name: _with_nulls(part) for name, part in parts.items()})
        operation["requestBody"] = {"required": True, "content": _json(endpoint.takes.__name__)}
    return operation


def _with_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with null for every field that may be left out, which is what null means to us."""
    if schema.get("additionalProperties") is not False:  # not one of our bodies
        return schema
    required = schema.get("required", [])
    properties = {
        name: field if name in required else {"anyOf": [field, {"type": "null"}]}
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    content = {"text/plain": {"schema": RESPONSES["Metrics"]}} if endpoint.gives == "Metrics" else _json(endpoint.gives)
    if endpoint.streams:
        content["text/event-stream"] = {}  # with `stream`; OpenAPI 3.1 has no words for events
    responses = {
        str(endpoint.status): {"description": "done", "content": content},
        "default": {"description": "refused, or failed: `code` says why", "content": _json("Error")},
    }
    if endpoint.gives == "Readiness":
        responses["503"] = {"description": "not ready: the log says why", "content": _json("NotReady")}
    return responses


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": SCHEMAS + name}}}
