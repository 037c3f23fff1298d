"""The pages of a handbook cut into modules, and questions to them, half of them examples and half the test.

Which half a question is in was fixed before anything was measured: the questions of a module are ordered by the SHA-256
of their text; the first, third and so on are examples, the others are the test.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from quire import sources
from quire.core import ModuleSpec, RouteSpec, Scope
from quire.errors import InvalidSetting, SourceMalformed
from quire.router import Described
from quire.router.golden import FALLBACK, Golden

CHECKOUT_QUESTIONS = Path(__file__).parents[4] / "tests" / "data" / "handbook" / "questions.yaml"
MOST_BYTES = 16 << 20  # of a page


@dataclass(frozen=True, slots=True)
class Handbook:
    """Modules with their examples, questions that no module covers, and the test."""

    modules: list[Described]
    outside: list[str]
    test: list[Golden]

    @property
    def examples(self) -> int:
        return sum(len(module.spec.route.examples) for module in self.modules)


def read_handbook(pages: Path, questions: Path = CHECKOUT_QUESTIONS) -> Handbook:
    """Cut the `pages`, files of a directory, as `questions` says.

    Raises:
        SourceError, InvalidSetting: a page, or a heading of it, is not there; the questions have another form.
    """
    entries = _entries(questions)
    texts = {entry["page"]: _text(pages, entry["page"]) for entry in entries if "page" in entry}
    modules: list[Described] = []
    outside: list[str] = []
    test: list[Golden] = []
    for entry in entries:
        name = entry["module"]
        examples, asked = split(entry["questions"])
        test += [Golden(question, name) for question in asked]
        if name == FALLBACK:
            outside = examples
            continue
        headings = [other["heading"] for other in entries if other.get("page") == entry["page"]]
        text = cut(texts[entry["page"]], headings, entry["heading"], entry["page"])
        route = RouteSpec(examples=tuple(examples))
        spec = ModuleSpec(name, (entry["page"],), None, entry["title"], "handbook", Scope("public"), route)
        modules.append(Described(spec, (text,)))
    return Handbook(modules, outside, test)


def split(questions: list[str]) -> tuple[list[str], list[str]]:
    """Examples and test."""
    ordered = sorted(questions, key=lambda question: hashlib.sha256(question.encode()).hexdigest())
    return ordered[0::2], ordered[1::2]


def cut(text: str, headings: list[str], heading: str, page: str) -> str:
    """The part of a page from one of `headings` to the next. Raises SourceMalformed."""
    lines = text.splitlines()
    missing = [line for line in headings if line not in lines]
    if missing:
        raise SourceMalformed(f"expected the heading {missing[0]!r} in {page}, found none", hint="is it that handbook?")
    begins = sorted(lines.index(line) for line in headings)
    begin = lines.index(heading)
    end = next((later for later in begins if later > begin), len(lines))
    return "\n".join(lines[begin:end])


def _text(pages: Path, page: str) -> str:
    (document,) = sources.collect(pages, (page,), max_bytes=MOST_BYTES)
    return document.text


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"cannot read the questions in {path}: {error}", hint="give --questions-file") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidSetting(f"{path} has no list of modules", hint="see tests/data/handbook/questions.yaml")
    return entries
