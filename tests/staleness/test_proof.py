"""A fact changes in a source: the server knows within one watch interval, the build follows, and golden tests keep a
wrong answer from going live. With the default model, in three processes: this one, a server, and a watching build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.test_rebuilding import Watching
from gateway.process import Server, eventually

from quire.model import DEFAULT_MODEL
from quire.registry import Registry

INTERVAL = 1.0  # seconds, of server and build
SLACK = 4.0  # for the look itself, on a machine that also compiles
FACT = """# Opening hours

The harbour office of Norrvik opens at {hour} o'clock in the morning, every day of the week.
It is closed at night. Boats are registered there.
"""
GOLDEN = """- question: At what time does the harbour office of Norrvik open?
  contains: "{hour}"
  max_tokens: 24
"""
QUESTION = "At what time does the harbour office of Norrvik open?"


@pytest.fixture
def root(tmp_path: Path, smol_home: Path) -> Path:
    (tmp_path / "golden").mkdir()
    (tmp_path / "office.md").write_text(FACT.format(hour=9))
    (tmp_path / "golden" / "office.yaml").write_text(GOLDEN.format(hour=9))
    (tmp_path / "quire.toml").write_text(
        f'[model]\npath = "{DEFAULT_MODEL}"\nhome = "{smol_home}"\nthreads = 1\n[build]\nwatch_seconds = {INTERVAL}\n'
        f"[server]\nwatch_seconds = {INTERVAL}\n"
        '[modules.office]\nsources = ["office.md"]\nacl = "public"\nroute = { keywords = ["office"] }\n'
    )
    return tmp_path


@pytest.fixture
def building(root: Path) -> Iterator[Watching]:
    with Watching(root) as running:
        assert [ref["module"] for ref in running.build()["published"]] == ["office"]
        yield running


@pytest.mark.slow
def test_a_changed_fact(root: Path, building: Watching) -> None:
    with Registry.open(root / ".quire" / "registry.db") as registry, Server(root) as server:
        first = registry.live("office")

        def answer() -> tuple[str, dict[str, Any]]:
            messages = [{"role": "user", "content": QUESTION}]
            told = server.post(
                "/v1/chat/completions", json={"model": "quire", "messages": messages, "max_tokens": 24}
            ).json()
            return told["choices"][0]["message"]["content"], told["quire"]

        def stale() -> bool:
            return server.get("/v1/modules/office").json()["stale"] is not None

        assert "9" in answer()[0]
        assert not stale()

        # Somebody mistypes the fact. It is compiled, and its golden test keeps it from going live.
        (root / "office.md").write_text(FACT.format(hour=5))
        assert eventually(stale, INTERVAL + SLACK), "stale within one watch interval"
        wrong = building.build()
        assert [ref["module"] for ref in wrong["compiled"]] == ["office"]
        assert list(wrong["withheld"]) == ["office"]
        assert building.error() == "golden_failed"
        assert registry.live("office").digest == first.digest
        text, told = answer()
        assert "9" in text, "the wrong fact is not told"
        assert told["digest"] == first.digest
        assert told["stale"]["triggers"] == ["source"]

        # The fact did change: source and golden test say so, and the new version goes live.
        (root / "office.md").write_text(FACT.format(hour=10))
        (root / "golden" / "office.yaml").write_text(GOLDEN.format(hour=10))
        assert [ref["module"] for ref in building.build()["published"]] == ["office"]
        assert eventually(lambda: "10" in answer()[0], INTERVAL + SLACK)
        assert eventually(lambda: answer()[1]["stale"] is None, INTERVAL + SLACK)
        assert registry.live("office").digest != first.digest
