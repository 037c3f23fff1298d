"""`quire ask` and `quire chat`: the answer alone on stdout, its provenance beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quire import open_project

from .conftest import MakeProject, Quire


@pytest.fixture
def root(quire: Quire, project: MakeProject) -> Path:
    root = project({"prices": "A bolt costs 3 pounds.", "hours": "Open from nine to five."})
    with (root / "quire.toml").open("a") as file:
        file.write('[modules.prices.route]\nkeywords = ["bolt"]\n')
    assert quire("build", "--project", root).code == 0
    return root


def test_stdout_holds_the_answer_that_python_gives(quire: Quire, root: Path) -> None:
    asked = quire("ask", "How much is a bolt?", "--project", root, "--max-tokens", 8)
    with open_project(root) as opened:
        assert asked.out == opened.ask("How much is a bolt?", max_tokens=8).text() + "\n"
    assert "rule: matched keyword 'bolt'" in asked.err
    assert "cold" in asked.err


def test_json_carries_answer_provenance_and_usage(quire: Quire, root: Path) -> None:
    told = quire("ask", "Hello", "--module", "hours", "--project", root, "--max-tokens", 5, "--json")
    assert told.err == ""
    assert told.json["quire"]["module"] == "hours"
    assert told.json["quire"]["stage"] == "explicit"
    assert told.json["quire"]["restored_tokens"] == told.json["usage"]["cached_tokens"]
    assert told.json["usage"]["completion_tokens"] <= 5


def test_the_same_seed_gives_the_same_answer(quire: Quire, root: Path) -> None:
    command = ("ask", "bolt", "--project", root, "--max-tokens", 12, "--temperature", 1.5, "--seed", 7)
    first = quire(*command, "--top-k", 50, "--top-p", 0.9, "--min-p", 0.001, "--repetition-penalty", 1.1).out
    assert quire(*command, "--top-k", 50, "--top-p", 0.9, "--min-p", 0.001, "--repetition-penalty", 1.1).out == first
    assert quire(*command, "--top-k", 50).code == 0


def test_a_question_without_a_route_is_refused(quire: Quire, root: Path) -> None:
    refused = quire("ask", "Good morning", "--project", root)
    assert (refused.code, refused.out) == (9, "")
    assert "no keyword, pattern or condition applies" in refused.err
    assert quire("ask", "  ", "--module", "prices", "--project", root).code == 10
    assert quire("ask", "bolt", "--module", "nobody", "--project", root).code == 8
    assert quire("ask", "bolt", "--max-tokens", 100_000, "--project", root).code == 10


def test_a_conversation_computes_only_what_is_new(quire: Quire, root: Path) -> None:
    said = "What is a bolt?\n\nGood morning\nAnd two?\n/quit\nnever asked\n"
    told = quire("chat", "--project", root, "--max-tokens", 6, "--json", stdin=said)
    assert told.code == 0
    answers = [json.loads(line) for line in told.out.splitlines()]
    assert [answer["quire"]["module"] for answer in answers] == ["prices"] * 3
    sessions = [answer["usage"]["session_tokens"] for answer in answers]
    assert sessions[0] == 0 < sessions[1] < sessions[2]
    assert [answer["quire"]["tier"] for answer in answers] == ["cold", "warm", "warm"]


def test_a_conversation_goes_on_after_a_question_that_fails(quire: Quire, root: Path) -> None:
    told = quire("chat", "--project", root, "--max-tokens", 3, stdin="Good morning\nWhat is a bolt?\n")
    assert told.code == 0
    assert "error: no module covers the question" in told.err
    assert "0 of the session" in told.err
