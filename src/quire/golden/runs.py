"""What came of asking a version the questions of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

SHOWN = 3  # failing questions that a sentence names
LONGEST = 160  # characters of each text in it


@dataclass(frozen=True, slots=True)
class Verdict:
    """One question. `unmet`: what was expected and does not hold; empty: it passed.

    `forgiven`: it failed within what its file allows. `tokens`: of the answer.
    """

    file: str
    question: str
    answer: str
    unmet: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tokens: int = 0
    forgiven: bool = False

    @property
    def passed(self) -> bool:
        return not self.unmet

    def __str__(self) -> str:
        """Expected and found, in one line."""
        expected = _short(" and ".join(self.unmet))
        return f"{_short(self.question)!r}: expected: {expected}; found {_short(self.answer)!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRun:
    """A suite, asked of the very bytes of a version. `engine`: the model and what it ran on."""

    module_id: str
    version: str
    digest: str  # of the artifact
    suite: str  # checksum
    at: datetime  # UTC
    actor: str
    engine: Mapping[str, Any] = field(hash=False)
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The questions that failed, forgiven or not."""
        return tuple(one for one in self.verdicts if not one.passed)

    @property
    def green(self) -> bool:
        """Whether the version may go live by it."""
        return all(one.passed or one.forgiven for one in self.verdicts)

    @property
    def told(self) -> str:
        """``6 of 7 golden tests passed, 1 failure allowed``."""
        forgiven = sum(one.forgiven for one in self.verdicts)
        allowed = f", {forgiven} failure{'s' * (forgiven > 1)} allowed" if forgiven else ""
        return f"{len(self.verdicts) - len(self.failed)} of {len(self.verdicts)} golden tests passed{allowed}"

    @property
    def complaint(self) -> str:
        """What is wrong, naming the first few questions that are not forgiven."""
        counted = [one for one in self.failed if not one.forgiven]
        named = "; ".join(str(one) for one in counted[:SHOWN])
        more = f"; and {len(counted) - SHOWN} more" if len(counted) > SHOWN else ""
        return f"{len(self.failed)} of {len(self.verdicts)} golden tests failed: {named}{more}"

    def as_json(self) -> dict[str, Any]:
        """For tables of programs; `verdicts` in the order of the suite."""
        return {
            "module": self.module_id,
            "version": self.version,
            "digest": self.digest,
            "suite": self.suite,
            "at": self.at.isoformat(),
            "by": self.actor,
            "engine": dict(self.engine),
            "green": self.green,
            "questions": len(self.verdicts),
            "failed": len(self.failed),
            "verdicts": [{**asdict(one), "passed": one.passed} for one in self.verdicts],
        }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
