"""questions.toml: what a demonstration asks, who should answer, and the fact expected."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quire.errors import InvalidSetting

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS_FILE = "questions.toml"
EXAMPLE = 'expected [[question]] tables with text = "...", module = "...", expect = ["..."]'


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the module that should answer it, and what a right answer contains, letter case included."""

    text: str
    module: str
    expect: tuple[str, ...]

    def answered_by(self, answer: str) -> bool:
        return all(fact in answer for fact in self.expect)


def read_questions(directory: Path, count: int | None) -> list[Asked]:
    """The first `count` questions, one of each module in turn, then the second of each, and so on; all for None.

    Raises:
        InvalidSetting: the file is missing or has another form.
    """
    path = directory / QUESTIONS_FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(
            f"cannot read {path}: {error.strerror}", hint=f"name a project that has one, or write it: {EXAMPLE}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSetting(f"{path} is not valid TOML: {error}", hint="correct the line named") from error
    entries = document.get("question")
    if not isinstance(entries, list) or not entries:
        raise InvalidSetting(f"{path} has no questions", hint=EXAMPLE)
    asked = [_asked(entry, f"question {number} of {path}") for number, entry in enumerate(entries, start=1)]
    turns: Counter[str] = Counter()
    rounds: list[tuple[int, Asked]] = []
    for one in asked:
        rounds.append((turns[one.module], one))
        turns[one.module] += 1
    return [one for _, one in sorted(rounds, key=lambda pair: pair[0])][:count]


def _asked(entry: Any, where: str) -> Asked:
    given = entry if isinstance(entry, dict) else {}
    text, module, expect = given.get("text"), given.get("module"), given.get("expect", [])
    strings = isinstance(expect, list) and all(isinstance(fact, str) for fact in expect)
    if not (isinstance(text, str) and text.strip() and isinstance(module, str) and strings):
        raise InvalidSetting(f"{where} has another form", hint=EXAMPLE)
    return Asked(text, module, tuple(expect))
