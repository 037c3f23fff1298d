"""Who may see what is decided without knowing how a question came in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import quire

SOURCE = Path(quire.__file__).parent
FORBIDDEN = {"fastapi", "starlette", "uvicorn", "httpx", "http", "requests", "aiohttp", "socket"}
FILES = sorted(file for room in ("access", "router", "registry") for file in (SOURCE / room).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_access_router_and_registry_know_nothing_of_http(file: Path) -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    assert not {name for name in names if name.split(".")[0] in FORBIDDEN or name.startswith("urllib.request")}
    assert "quire.gateway" not in {".".join(name.split(".")[:2]) for name in names}
