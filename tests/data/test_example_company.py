"""The example project: its files exist, its questions have answers, and each belongs to one module."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from quire.sources import read_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "skerrivane"
PROJECT = tomllib.loads((EXAMPLE / "quire.toml").read_text(encoding="utf-8"))
ASKED = tomllib.loads((EXAMPLE / "questions.toml").read_text(encoding="utf-8"))
MODULES: dict[str, Any] = PROJECT["modules"]
QUESTIONS: list[dict[str, Any]] = ASKED["question"]
DOMAINS = [name for name, module in MODULES.items() if "route" in module and "parent" in module]


def source_files(module_id: str) -> list[Path]:
    paths = [EXAMPLE / source for source in MODULES[module_id]["sources"]]
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def words(text: str) -> str:
    """The text on one line, so that a fact is found across a line break."""
    return " ".join(text.split())


def matches(module_id: str, question: str) -> bool:
    route = MODULES[module_id].get("route", {})
    keywords = [rf"\b{re.escape(keyword)}\b" for keyword in route.get("keywords", [])]
    return any(re.search(p, question, re.IGNORECASE) for p in [*keywords, *route.get("patterns", [])])


@pytest.mark.parametrize("module_id", MODULES)
def test_every_source_is_there_and_every_parent_is_declared(module_id: str) -> None:
    assert source_files(module_id)
    assert all(file.stat().st_size > 0 for file in source_files(module_id))
    assert MODULES[module_id].get("parent", "company") in MODULES


@pytest.mark.parametrize("module_id", DOMAINS)
def test_every_domain_has_three_questions_at_least(module_id: str) -> None:
    assert sum(question["module"] == module_id for question in QUESTIONS) >= 3


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["text"])
def test_expected_facts_stand_in_the_module_that_should_answer(question: dict[str, Any]) -> None:
    text = words("\n".join(file.read_text(encoding="utf-8") for file in source_files(question["module"])))
    assert question["expect"]
    assert [fact for fact in question["expect"] if fact not in text] == []


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["text"])
def test_a_question_matches_the_rules_of_its_own_module_only(question: dict[str, Any]) -> None:
    matching = [module_id for module_id in MODULES if matches(module_id, question["text"])]
    assert matching == [question["module"]]


def test_the_api_description_is_openapi_whose_references_resolve() -> None:
    text = (EXAMPLE / "knowledge" / "api.json").read_text(encoding="utf-8")
    api = json.loads(text)
    assert api["openapi"].startswith("3.1.")
    references = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert references == set(api["components"]["schemas"])


def test_domains_share_the_tools_and_the_file_is_a_complete_list() -> None:
    assert [name for name in DOMAINS if MODULES[name]["parent"] == "tools"] == ["billing", "shipping"]
    document = read_source(EXAMPLE / "knowledge" / "tools.json")
    tools = [json.loads(line) for line in document.text.splitlines() if line.startswith("{")]
    assert document.media == "mcp"
    assert [tool["name"] for tool in tools] == ["book_collection", "find_order", "start_return"]
