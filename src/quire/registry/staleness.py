"""Versions that their inputs have left behind: what is known of it, kept beside the version.

A mark says which triggers there were, and what the module is to do meanwhile. It belongs to the version: whatever is
published, rolled back or retired, the mark stays with the version it is about until somebody looks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Self, get_args

from quire.core import WhenStale

Trigger = Literal[
    "source",
    "parent",
    "model",
    "tokenizer",
    "layout",
    "access",
    "title",
    "build",
    "new",
    "missing",
    "state",
    "expired",
    "golden",
]

# In words that say nothing about files, for whoever may read the module.
SAID: dict[Trigger, str] = {
    "source": "a source changed",
    "parent": "its parent changed",
    "model": "the model changed",
    "tokenizer": "the tokenizer changed",
    "layout": "the layout changed",
    "access": "its acl changed",
    "title": "its title changed",
    "build": "the build settings changed",
    "new": "it was never compiled",
    "missing": "its artifact is gone",
    "state": "it is not live",
    "expired": "it expired",
    "golden": "it has not passed its golden tests",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing by which a version is not what a build would make now.

    `subject`: what it is about, such as the path of a source. `expected`: what the project says now, `found`: what the
    version was made of; "" where there is nothing to name.
    """

    trigger: Trigger
    text: str
    subject: str = ""
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Staleness:
    """Why a version is stale, since when that is known, and what it does meanwhile."""

    since: datetime
    then: WhenStale
    reasons: tuple[Reason, ...]

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """Each once, in the order of the reasons."""
        return triggers_of(self.reasons)

    @property
    def said(self) -> str:
        """In words for whoever may read the module."""
        return ", ".join(SAID[trigger] for trigger in self.triggers)

    def as_json(self) -> dict[str, Any]:
        return {"since": self.since.isoformat(), "then": self.then, "reasons": [asdict(r) for r in self.reasons]}

    def to_text(self) -> str:
        return json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` gives. Raises ValueError, TypeError or KeyError for anything else."""
        reasons = tuple(Reason(**reason) for reason in value["reasons"])
        if value["then"] not in get_args(WhenStale) or any(reason.trigger not in SAID for reason in reasons):
            raise ValueError("stale: expected triggers and what to do, found others")
        return cls(datetime.fromisoformat(value["since"]), value["then"], reasons)


def triggers_of(reasons: Iterable[Reason]) -> tuple[Trigger, ...]:
    return tuple(dict.fromkeys(reason.trigger for reason in reasons))
