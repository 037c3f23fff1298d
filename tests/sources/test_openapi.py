"""OpenAPI becomes a reference a person could use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quire.errors import SourceMalformed, SourceTooLarge
from quire.sources import Document, read_source

PETS: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "version": "2.0", "description": "All the\npets."},
    "servers": [{"url": "https://pets.example", "description": "production"}],
    "paths": {
        "/pets/{id}": {
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
            ],
            "get": {
                "summary": "One pet",
                "operationId": "getPet",
                "security": [{"key": []}, {}],
                "parameters": [
                    {"$ref": "#/components/parameters/Trace"},
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "description": "Its id.",
                        "schema": {"type": "string"},
                    },
                ],
                "responses": {
                    "200": {
                        "description": "The pet",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                    },
                    "404": {"$ref": "#/components/responses/Missing"},
                },
            },
            "delete": {"deprecated": True, "responses": {"204": {"description": "Gone"}}},
        },
        "/pets": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string", "maxLength": 9, "description": "What it\nanswers to."},
                                    "tags": {"type": "array", "items": {"enum": ["cat", "dog"]}},
                                },
                            }
                        }
                    },
                },
                "responses": {"201": {"description": "Made"}},
            }
        },
    },
    "components": {
        "parameters": {"Trace": {"name": "X-Trace", "in": "header", "schema": {"type": "integer", "default": 0}}},
        "responses": {"Missing": {"description": "No such pet"}},
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
        "schemas": {
            "Pet": {
                "description": "A pet and its parents.",
                "properties": {
                    "parents": {"type": "array", "items": {"$ref": "#/components/schemas/Pet"}},
                    "home": {"oneOf": [{"$ref": "#/components/schemas/House"}, {"type": "null"}]},
                },
            },
            "House": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}

REFERENCE = """\
# Pets

Version 2.0

All the
pets.

Servers:

- `https://pets.example`: production

Authentication:

- `key` (apiKey header X-Key)

## GET /pets/{id}

One pet

Operation: `getPet`

Security: `key` or none

Parameters:

- `id` (path, string, required): Its id.
- `X-Trace` (header, integer, default 0)

Responses:

- `200`: The pet
  - application/json: Pet
- `404`: No such pet

## DELETE /pets/{id}

Deprecated.

Parameters:

- `id` (path, string, format uuid, required)

Responses:

- `204`: Gone

## POST /pets

Request body (required):

- application/json: object
  - `name` (string, maxLength 9, required): What it answers to.
  - `tags` (array of "cat" | "dog")

Responses:

- `201`: Made

## Schemas

### Pet

object

A pet and its parents.

- `parents` (array of Pet)
- `home` (House | null)

### House

object with values string
"""


def read(tmp_path: Path, name: str, content: str) -> Document:
    (tmp_path / name).write_text(content)
    return read_source(tmp_path / name, name=name)


def test_the_reference_is_complete_and_in_document_order(tmp_path: Path) -> None:
    document = read(tmp_path, "pets.json", json.dumps(PETS))
    assert document.text == REFERENCE
    assert (document.media, document.title) == ("openapi", "Pets")


def test_yaml_and_json_give_the_same_reference(tmp_path: Path) -> None:
    # JSON is YAML once the first key stands at the beginning of a line.
    lines = [f"{key}: {json.dumps(value)}" for key, value in PETS.items()]
    assert read(tmp_path, "pets.yaml", "\n".join(lines)).text == REFERENCE


def test_shared_anchors_are_written_where_they_are_used(tmp_path: Path) -> None:
    text = "openapi: 3.0.0\ninfo: &i {title: T, description: shared}\npaths: {/a: {get: *i}, /b: {put: *i}}\n"
    assert read(tmp_path, "a.yml", text).text.count("shared") == 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"info": []}, "an object at #/info"),
        ({"paths": {"/a": 3}}, "an object at #/paths//a"),
        ({"paths": {"/a": {"get": []}}}, "an object at #/paths//a/get"),
        ({"paths": {"/a": {"get": {"parameters": {}}}}}, "a list of objects"),
        ({"paths": {"/a": {"get": {"responses": {"200": {"$ref": "#/nowhere"}}}}}}, "nothing at #/nowhere"),
        ({"components": {"securitySchemes": {"a": {"$ref": "#/components/securitySchemes/a"}}}}, "cycle through"),
    ],
)
def test_a_description_that_breaks_the_specification_names_the_place(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SourceMalformed, match=problem):
        read(tmp_path, "a.json", json.dumps({"openapi": "3.0.0", "info": {"title": "T"}, **change}))


def test_a_component_repeated_beyond_reason_is_refused(tmp_path: Path) -> None:
    shared = {"description": "x" * 100_000}
    operations = {f"/{i}": {"get": {"responses": {"200": {"$ref": "#/components/responses/R"}}}} for i in range(700)}
    content = {"openapi": "3.0.0", "paths": operations, "components": {"responses": {"R": shared}}}
    with pytest.raises(SourceTooLarge, match="67108864 characters"):
        read(tmp_path, "a.json", json.dumps(content))


@pytest.mark.parametrize("text", ["openapi: 3.0.0\na: [", "openapi: 3.0.0\n<<: {}\n", "openapi: 3.0.0\n---\nx: 1\n"])
def test_yaml_that_does_not_parse_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceMalformed, match=r"a\.yaml: expected"):
        read(tmp_path, "a.yaml", text)
