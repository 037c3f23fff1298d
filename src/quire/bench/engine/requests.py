"""The requests: questions to the document, each different from all others of the run.

A prefix cache finds whatever it has seen before, so a question that came twice would cost one arm less the second
time. Each one therefore begins with a number of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.bench.workbench import Workbench

TOKENS = 33  # of each answer: the first one, and 32 that are decoded


@dataclass(frozen=True, slots=True)
class Requests:
    """Suffixes by level and repetition, in token ids. `warm`: asked before anything is measured.

    `document`: tokens of the document. `tokens`: of each answer. `opening`: with which all suffixes begin.
    """

    document: int
    warm: list[int]
    load: dict[tuple[int, int], list[list[int]]]  # (level, repetition)
    restart: list[list[int]]  # by repetition
    tokens: int = TOKENS
    opening: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest suffix."""
        return max(len(s) for s in (self.warm, *self.restart, *(s for level in self.load.values() for s in level)))

    def suffix_tokens(self, level: int) -> float:
        """Mean tokens of the suffixes at `level`."""
        lengths = [len(s) for (at, _), suffixes in self.load.items() if at == level for s in suffixes]
        return sum(lengths) / len(lengths)


def make_requests(bench: Workbench, levels: tuple[int, ...], repeat: int) -> Requests:
    """Suffixes for `repeat` repetitions of each of `levels`."""
    questions, made = bench.subject.questions, 0

    def suffix() -> list[int]:
        nonlocal made
        made += 1
        return bench.suffix_ids(f"Question {made}: {questions[(made - 1) % len(questions)]}")

    warm = suffix()
    load = {(level, number): [suffix() for _ in range(level)] for number in range(repeat) for level in levels}
    restart = [suffix() for _ in range(repeat)]
    opening = len(bench.model.tokenizer.markers(bench.plan.layout.first_user))
    return Requests(len(bench.token_ids), warm, load, restart, opening=opening)
