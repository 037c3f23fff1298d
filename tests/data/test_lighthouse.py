"""The long document: every answer to its questions can be read in it, and no question is asked twice."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

LONG = Path(__file__).parent / "long"
TEXT = " ".join((LONG / "lighthouse.md").read_text(encoding="utf-8").split())
ASKED = tomllib.loads((LONG / "lighthouse.questions.toml").read_text(encoding="utf-8"))
QUESTIONS: list[dict[str, Any]] = ASKED["question"]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["text"])
def test_answers_stand_word_for_word_in_the_document(question: dict[str, Any]) -> None:
    assert question["answers"]
    assert [answer for answer in question["answers"] if answer not in TEXT] == []


def test_there_are_twelve_different_questions_at_least() -> None:
    assert len({question["text"] for question in QUESTIONS}) == len(QUESTIONS) >= 12
