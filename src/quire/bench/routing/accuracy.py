"""How often routing is right about questions that it has not seen: all of it, and each learned stage alone.

Arms: all stages, as a project has them; the classifier with the semantic stage off, and the other way round; both of
these once more with a threshold of zero. A question is right where it goes to its module, or, if no module covers it,
to the fallback. Abstaining is not wrong and is counted apart. No keywords and patterns are declared, so that nobody's
choice of them is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from quire.bench.routing.handbook import Handbook
from quire.router import Router, Stages, build_table
from quire.router.golden import FALLBACK, Routed, confusion, run_golden

ARMS: dict[str, Stages] = {
    "all stages": Stages(),
    "classifier alone": Stages(semantic=False),
    "semantic alone": Stages(classifier=False),
    "classifier, never abstaining": Stages(semantic=False, classifier_confidence=0.0),
    "semantic, never abstaining": Stages(classifier=False, semantic_confidence=0.0),
}


@dataclass(frozen=True, slots=True)
class Score:
    """Of questions that a module covers: right, wrong, and abstained from. Of the others: left to the fallback."""

    covered: int
    right: int
    wrong: int
    abstained: int
    outside: int
    outside_right: int

    @classmethod
    def of(cls, routed: Sequence[Routed]) -> Score:
        covered = [one for one in routed if one.golden.module != FALLBACK]
        outside = [one for one in routed if one.golden.module == FALLBACK]
        right = sum(one.passed for one in covered)
        abstained = sum(one.module == FALLBACK for one in covered)
        return cls(
            len(covered),
            right,
            len(covered) - right - abstained,
            abstained,
            len(outside),
            sum(o.passed for o in outside),
        )


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """A finished run. `routed`: the test questions by all stages. `arms`: scores by arm."""

    modules: int
    examples: int
    outside: int
    table: str
    routed: list[Routed]
    arms: dict[str, Score]

    @property
    def by_stage(self) -> dict[str, tuple[int, int]]:
        """By the stage that decided: how many questions, and how many of them right."""
        decided = Counter(one.plan.stage for one in self.routed)
        right = Counter(one.plan.stage for one in self.routed if one.passed)
        return {stage: (count, right[stage]) for stage, count in decided.items()}

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with every question."""
        return {
            "benchmark": "route handbook",
            "quire": version("quire"),
            "modules": self.modules,
            "examples": self.examples,
            "outside": self.outside,
            "table": self.table,
            "arms": {
                name: {field: getattr(score, field) for field in Score.__slots__} for name, score in self.arms.items()
            },
            "by_stage": {stage: {"questions": n, "right": right} for stage, (n, right) in self.by_stage.items()},
            "confusion": {name: dict(found) for name, found in confusion(self.routed).items()},
            "questions": [
                {
                    "question": one.golden.question,
                    "expected": one.golden.module,
                    "module": one.module,
                    "stage": one.plan.stage,
                    "confidence": round(one.plan.confidence, 4),
                }
                for one in self.routed
            ],
        }


def measure_accuracy(handbook: Handbook) -> AccuracyReport:
    """Train on the examples and route the test, by each arm."""
    routed: dict[str, list[Routed]] = {}
    for name, stages in ARMS.items():
        table = build_table(handbook.modules, stages, handbook.outside)
        routed[name] = run_golden(Router(table), handbook.test)
    first = next(iter(ARMS))
    digest = build_table(handbook.modules, ARMS[first], handbook.outside).digest
    scores = {name: Score.of(found) for name, found in routed.items()}
    return AccuracyReport(
        len(handbook.modules), handbook.examples, len(handbook.outside), digest, routed[first], scores
    )
