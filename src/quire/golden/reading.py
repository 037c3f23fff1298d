"""golden/billing.yaml: what a module must answer before it may go live.

allowed_failures: 1             # of this file; or by tag: {hard: 2, total: 1}
max_tokens: 48                  # of every answer; 64 where nothing is said
questions:
- question: How many days do I have to return a station?
  contains: 30 days             # a text or several; letter case counts
  not_contains: [60 days]
  tags: [returns]
- question: What does express delivery cost?
  numeric: {value: 11, tolerance: 0.5}    # or a number alone: it must be one of the numbers in the answer
- question: Where is the warehouse?
  regex: 'Pier\\s+Road'          # searched; (?i) at the beginning leaves letter case out
- question: Is the shop open on Sunday?
  exact: "No."                  # but for white space around it
- question: What are the opening hours?
  f1: {text: Tuesday to Saturday from 9 to 18, at_least: 0.6}    # overlap of words

A file may also be the list of questions alone. Several expectations of one question must all hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from quire.core import ModuleSpec
from quire.errors import InvalidSetting, lack_of
from quire.golden.suite import MAX_TOKENS, Expectation, GoldenFile, GoldenQuestion, Kind, Suite
from quire.patterns import check_pattern

GOLDEN_DIRECTORY = "golden"
ROUTES = "routes"  # golden/routes.yaml says where questions go, whatever modules are called
LONGEST_ANSWER = 4096  # tokens
SHAPE = "expected a list of entries such as {question: ..., contains: ...}; docs/lifecycle.md shows all keys"
FILE_KEYS = ("questions", "allowed_failures", "max_tokens")
TEXT_KINDS: tuple[Kind, ...] = ("contains", "not_contains", "regex", "exact")
KINDS: tuple[Kind, ...] = (*TEXT_KINDS, "numeric", "f1")
KEYS = ("question", *KINDS, "tags", "max_tokens")


def suite_of(root: Path, spec: ModuleSpec) -> Suite | None:
    """What `spec` is tested with: the files it names, else golden/NAME.yaml if that is there, else nothing.

    Raises:
        InvalidSetting.
    """
    default = f"{GOLDEN_DIRECTORY}/{spec.module_id}.yaml"
    names = spec.golden
    if not names and spec.module_id != ROUTES and (root / default).is_file():
        names = (default,)
    return Suite(tuple(read_file(root / name, name) for name in names)) if names else None


def read_file(path: Path, name: str | None = None) -> GoldenFile:
    """The questions of one file, called `name`. Raises InvalidSetting."""
    value, where = read_yaml(path, SHAPE), str(path)
    table = value if isinstance(value, dict) else {"questions": value}
    if unknown := [key for key in table if key not in FILE_KEYS]:
        raise InvalidSetting(f"{where} has an unknown key {unknown[0]!r:.60}", hint=f"known: {', '.join(FILE_KEYS)}")
    entries = entries_of(table.get("questions"), where, SHAPE)
    most = _tokens(table.get("max_tokens", MAX_TOKENS), f"max_tokens of {where}")
    allowed, by_tag = _allowed(table.get("allowed_failures", 0), where)
    questions = tuple(_question(e, most, f"entry {number} of {where}") for number, e in enumerate(entries, start=1))
    for tag, _ in by_tag:
        if not any(tag in question.tags for question in questions):
            raise InvalidSetting(
                f"allowed_failures of {where} names the tag {tag!r}, which no question has",
                hint="give it to the questions that may fail, or take it away",
            )
    return GoldenFile(name or where, questions, allowed, by_tag)


def read_entries(path: Path, shape: str) -> list[Any]:
    """The entries of a file that is a list of them. `shape`: the hint. Raises InvalidSetting."""
    return entries_of(read_yaml(path, shape), str(path), shape)


def read_yaml(path: Path, shape: str) -> Any:
    """Any YAML value. Raises InvalidSetting."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise lack_of(error, str(path)) or InvalidSetting(
            f"cannot read {path}: {error.strerror}", hint=shape
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSetting(f"{path} is not valid YAML: {error}", hint="correct the line named") from error


def entries_of(value: Any, where: str, shape: str) -> list[Any]:
    """`value` if it is a list with something in it. Raises InvalidSetting."""
    if not isinstance(value, list) or not value:
        raise InvalidSetting(f"{where} has no entries", hint=shape)
    return value


def check_entry(entry: Any, keys: tuple[str, ...], where: str, shape: str) -> dict[str, Any]:
    """`entry` if it is a mapping of known keys. Raises InvalidSetting."""
    if not isinstance(entry, dict):
        raise InvalidSetting(f"{where} is no mapping, found {entry!r:.60}", hint=shape)
    if unknown := [key for key in entry if key not in keys]:
        raise InvalidSetting(f"{where} has an unknown key {unknown[0]!r:.60}", hint=f"known: {', '.join(keys)}")
    return entry


def _question(entry: Any, most: int, where: str) -> GoldenQuestion:
    fields = check_entry(entry, KEYS, where, SHAPE)
    question = fields.get("question")
    if not isinstance(question, str) or not question.strip():
        raise InvalidSetting(f"question of {where} must be a text, found {question!r:.60}", hint=SHAPE)
    expected = [one for kind in KINDS if kind in fields for one in _expectations(kind, fields[kind], where)]
    if not expected:
        raise InvalidSetting(f"{where} expects nothing of the answer", hint=f"give one of {', '.join(KINDS)}")
    tags = _texts(fields.get("tags", []), f"tags of {where}")
    tokens = _tokens(fields.get("max_tokens", most), f"max_tokens of {where}")
    return GoldenQuestion(question, tuple(expected), tags, tokens)


def _expectations(kind: Kind, value: Any, where: str) -> list[Expectation]:
    what = f"{kind} of {where}"
    if kind == "numeric":
        fields = value if isinstance(value, dict) else {"value": value}
        number, tolerance = _bounded(fields, "value", "tolerance", 0.0, what)
        return [Expectation(kind, _number(number, f"value of {what}"), tolerance)]
    if kind == "f1":
        text, least = _bounded(value, "text", "at_least", None, what)
        if not isinstance(text, str) or not text.strip() or not 0 < least <= 1:
            raise InvalidSetting(
                f"{what} must be a text and a share above 0, up to 1, found {value!r:.60}",
                hint="e.g. f1: {text: from Tuesday to Saturday, at_least: 0.6}",
            )
        return [Expectation(kind, text, least)]
    texts = _texts([value] if isinstance(value, str) else value, what)
    if not texts:
        raise InvalidSetting(f"{what} must be a text or several, found {value!r:.60}", hint=SHAPE)
    if kind == "regex":
        for pattern in texts:
            check_pattern(pattern, what)
    return [Expectation(kind, text) for text in texts]


def _bounded(value: Any, name: str, bound: str, default: float | None, what: str) -> tuple[Any, float]:
    """A mapping of a value and its bound."""
    fields = check_entry(value, (name, bound), what, SHAPE)
    if name not in fields or (default is None and bound not in fields):
        raise InvalidSetting(f"{what} must have {name} and {bound}, found {value!r:.60}", hint=SHAPE)
    found = _number(fields.get(bound, default), f"{bound} of {what}")
    if found < 0:
        raise InvalidSetting(f"{bound} of {what} must be 0 or more, found {found:g}", hint=SHAPE)
    return fields[name], found


def _allowed(value: Any, where: str) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Failures allowed in all, and by tag. ``total`` among the tags: in all."""
    by_tag: Mapping[Any, Any] = value if isinstance(value, dict) else {"total": value}
    for tag, count in by_tag.items():
        if not isinstance(tag, str) or type(count) is not int or count < 0:
            raise InvalidSetting(
                f"allowed_failures of {where} must be a count, or counts by tag, found {value!r:.60}",
                hint="e.g. allowed_failures: {hard: 2, total: 1}",
            )
    return by_tag.get("total", 0), tuple(sorted((tag, count) for tag, count in by_tag.items() if tag != "total"))


def _texts(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise InvalidSetting(f"{what} must be texts, found {value!r:.60}", hint="put numbers and yes or no in quotes")
    return tuple(value)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidSetting(f"{what} must be a number, found {value!r:.60}", hint="without a unit, as in 4.5")
    return float(value)


def _tokens(value: Any, what: str) -> int:
    if type(value) is not int or not 1 <= value <= LONGEST_ANSWER:
        raise InvalidSetting(
            f"{what} must be a count from 1 to {LONGEST_ANSWER}, found {value!r:.60}", hint="short answers test fast"
        )
    return value
