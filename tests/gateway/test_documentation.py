"""docs/http.md names everything that there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quire.gateway.endpoints import ENDPOINTS, OPEN_ENDPOINTS
from quire.gateway.error_bodies import STATUS, error_body
from quire.gateway.schemas import ChatFields, CompletionFields
from quire.gateway.unsupported import IGNORED, REFUSED
from quire.settings import BY_NAME

from .process import Server

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_path() -> None:
    documented = set(re.findall(r"^\| `(GET|POST) (\S+)` \|", PAGE, re.MULTILINE))
    assert documented == {(one.method, one.path.replace(":path", "")) for one in (*ENDPOINTS, *OPEN_ENDPOINTS)}


@pytest.mark.parametrize("name", sorted({*ChatFields.model_fields, *CompletionFields.model_fields, *IGNORED, *REFUSED}))
def test_every_field(name: str) -> None:
    assert name in QUOTED


def test_every_error_of_a_request() -> None:
    codes = {error_body(kind("said"))["error"]["code"] for kind, status in STATUS.items() if status < 499}
    assert codes <= QUOTED


def test_every_setting() -> None:
    sections = {name.split(".")[0] for name in BY_NAME}
    named = {q for text in QUOTED if (q := text.split(" ")[0]).split(".")[0] in sections and "." in q}
    assert {name for name in named if not name.endswith(".toml")} <= set(BY_NAME)
    assert {name for name in BY_NAME if name.startswith("server.")} <= named


def test_the_description_for_programs_has_every_path(server: Server) -> None:
    described = server.get("/v1/openapi.json").json()
    paths = {(method.upper(), path) for path, operations in described["paths"].items() for method in operations}
    assert paths == {(one.method, one.path.replace(":path", "")) for one in (*ENDPOINTS, *OPEN_ENDPOINTS)}
    assert set(described["components"]["schemas"]) >= {one.gives for one in (*ENDPOINTS, *OPEN_ENDPOINTS)}
