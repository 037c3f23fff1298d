"""golden/routes.yaml: questions with the module that must answer, and what becomes of them.

- question: How long may I return a station?
  module: billing
- question: What does it cost?
  module: partner-prices
  metadata: {channel: partner}    # hints, as in a request: intent, product, state, metadata
  stage: rule                     # optional: who must decide
- question: Who won the cup final?
  module: fallback                # no module
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from quire.access import EVERYTHING
from quire.core import Plan, Stage
from quire.errors import InvalidSetting
from quire.golden.reading import check_entry, read_entries
from quire.router.hints import NO_HINTS, Hints
from quire.router.router import Router

GOLDEN_FILE = Path("golden") / "routes.yaml"
FALLBACK = "fallback"
SHAPE = "expected a list of entries such as {question: ..., module: billing}; docs/routing.md shows all keys"
KEYS = ("question", "module", "stage", "intent", "product", "state", "metadata")


@dataclass(frozen=True, slots=True)
class Golden:
    """A question and what must become of it. `stage`: "" for any."""

    question: str
    module: str  # or "fallback"
    hints: Hints = NO_HINTS
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Routed:
    """A golden question and its plan."""

    golden: Golden
    plan: Plan

    @property
    def module(self) -> str:
        """Where it went, "fallback" for nowhere."""
        return self.plan.module_id or FALLBACK

    @property
    def passed(self) -> bool:
        return self.module == self.golden.module and self.golden.stage in {"", self.plan.stage}


def read_golden(path: Path) -> list[Golden]:
    """The entries of a file. Raises InvalidSetting: it cannot be read, or has another form."""
    return [_golden(e, f"entry {number} of {path}") for number, e in enumerate(read_entries(path, SHAPE), start=1)]


def run_golden(router: Router, entries: Iterable[Golden]) -> list[Routed]:
    """Route every question, as somebody who may read everything."""
    return [Routed(one, router.route(one.question, hints=one.hints, reach=EVERYTHING)) for one in entries]


def confusion(routed: Sequence[Routed]) -> dict[str, Counter[str]]:
    """How many questions of each expected module went where. Modules in the order in which they are expected."""
    found: dict[str, Counter[str]] = {one.golden.module: Counter() for one in routed}
    for one in routed:
        found[one.golden.module][one.module] += 1
    return found


def _golden(entry: Any, where: str) -> Golden:
    check_entry(entry, KEYS, where, SHAPE)
    texts = {key: entry.get(key, "") for key in KEYS[:-1]}
    metadata = entry.get("metadata", {})
    for key, text in texts.items():
        if not isinstance(text, str) or (key in {"question", "module"} and not text.strip()):
            raise InvalidSetting(f"{key} of {where} must be a text, found {text!r:.60}", hint=SHAPE)
    if texts["stage"] not in {"", *get_args(Stage)}:
        raise InvalidSetting(
            f"stage of {where} is none: {texts['stage']!r:.60}", hint=f"there are {', '.join(get_args(Stage))}"
        )
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise InvalidSetting(f"metadata of {where} must map names to texts, found {metadata!r:.60}", hint=SHAPE)
    said = {name: texts[name] or None for name in ("intent", "product", "state")}
    return Golden(texts["question"], texts["module"], Hints(**said, metadata=tuple(metadata.items())), texts["stage"])
