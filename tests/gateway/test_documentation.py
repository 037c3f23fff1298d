"""docs/http.md names everything that there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quire.gateway.app import ENDPOINTS
from quire.gateway.error_bodies import STATUS, error_body
from quire.gateway.schemas import ChatFields, CompletionFields
from quire.gateway.unsupported import IGNORED, REFUSED
from quire.settings import BY_NAME

from .process import Server

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_path() -> None:
    documented = set(re.findall(r"^\| `(GET|POST) (\S+)` \|", PAGE, re.MULTILINE))
    assert documented == {(method, path.replace(":path", "")) for method, path, _ in ENDPOINTS}


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


def test_every_metric(server: Server) -> None:
    documented = set(re.findall(r"^\| `(quire_\w+)` \|", PAGE, re.MULTILINE))
    lines = server.get("/metrics").text.splitlines()
    shown = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert documented == {name for name in shown if not name.endswith("_created")}
