"""What a module declares: questions, what their answers must say, and how many may fail."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from quire.artifact import digest_bytes
from quire.artifact.identity import canonical

Kind = Literal["contains", "not_contains", "regex", "exact", "numeric", "f1"]
MAX_TOKENS = 64  # of an answer where nothing else is said


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that must hold of an answer.

    `value`: the text, expression or number. `bound`: of numeric how far off it may be, of f1 the least overlap.
    """

    kind: Kind
    value: str | float
    bound: float = 0.0

    def __str__(self) -> str:
        """As a person reads it: ``contains '30 days'``."""
        match self.kind:
            case "numeric":
                return f"a number {self.value:g}" + (f" within {self.bound:g}" if self.bound else "")
            case "f1":
                return f"an overlap of {self.bound:g} or more with {self.value!r}"
            case "not_contains":
                return f"does not contain {self.value!r}"
            case "contains":
                return f"contains {self.value!r}"
            case "regex":
                return f"matches {self.value!r}"
            case "exact":
                return f"is {self.value!r}"


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    """A question; all of `expected` must hold of its answer."""

    question: str
    expected: tuple[Expectation, ...]
    tags: tuple[str, ...] = ()
    max_tokens: int = MAX_TOKENS


@dataclass(frozen=True, slots=True)
class GoldenFile:
    """The questions of one file. `allowed_by_tag`: failures forgiven by tag, before those of the whole file."""

    name: str
    questions: tuple[GoldenQuestion, ...]
    allowed: int = 0
    allowed_by_tag: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Suite:
    """All that one module is tested with, file by file. Two suites of one checksum ask the same."""

    files: tuple[GoldenFile, ...]

    def __len__(self) -> int:
        return sum(len(file.questions) for file in self.files)

    @cached_property
    def document(self) -> str:
        """Canonical JSON: it says everything, and `parse` reads it."""
        return canonical([asdict(file) for file in self.files]).decode()

    @cached_property
    def checksum(self) -> str:
        return digest_bytes(self.document.encode())

    @classmethod
    def parse(cls, document: str) -> Suite:
        """What `document` wrote. Raises ValueError, TypeError, KeyError for what it did not."""
        return cls(tuple(_file(entry) for entry in json.loads(document)))

    def only(self, tags: frozenset[str]) -> Suite:
        """The questions that have one of `tags`; files without any are left out."""
        chosen = [
            (file, tuple(question for question in file.questions if tags & set(question.tags))) for file in self.files
        ]
        return Suite(tuple(GoldenFile(f.name, kept, f.allowed, f.allowed_by_tag) for f, kept in chosen if kept))


def _file(entry: dict[str, Any]) -> GoldenFile:
    questions = tuple(
        GoldenQuestion(
            **{
                **one,
                "expected": tuple(Expectation(**expected) for expected in one["expected"]),
                "tags": tuple(one["tags"]),
            }
        )
        for one in entry["questions"]
    )
    by_tag = tuple((tag, count) for tag, count in entry["allowed_by_tag"])
    return GoldenFile(entry["name"], questions, entry["allowed"], by_tag)
