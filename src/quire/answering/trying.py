"""Golden tests, asked of the restored bytes of the versions under test: greedily, and together."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from quire.access import LOCAL
from quire.answering.answers import Answer
from quire.answering.questions import Question
from quire.core import Sampling, Turn
from quire.errors import ContextExceeded, EngineBusy
from quire.golden import GoldenFile, GoldenQuestion, GoldenRun, Verdict, judge, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from quire.answering.answers import Answerer
    from quire.golden import Suite
    from quire.registry import VersionRecord

AT_ONCE = 32  # questions under way: what is gained by more is little, and others may be asking too


@dataclass(frozen=True, slots=True)
class Trial:
    """A version with its ancestors, root first, and what it is asked."""

    chain: tuple[VersionRecord, ...]
    suite: Suite

    @property
    def record(self) -> VersionRecord:
        return self.chain[-1]


_Question = tuple[int, GoldenFile, GoldenQuestion]  # of which trial, of which file


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question under way, or one that could not even be asked: then `answer` says why."""

    trial: int
    file: GoldenFile
    golden: GoldenQuestion
    answer: Answer | ContextExceeded


def try_versions(
    answerer: Answerer,
    trials: Sequence[Trial],
    told: Callable[[int, int], None],
    *,
    actor: str,
    engine: Mapping[str, Any],
) -> list[GoldenRun]:
    """What comes of each trial. Keeps nothing.

    Args:
        told: the number of answers so far, and of questions; may raise to stop.
        engine: the model and what it runs on, for the runs.

    Raises:
        NoLiveVersion (revoked or expired), ModelMismatch, ArtifactError, StoreError, EngineError: no trial came about.
    """
    waiting, running = deque(_questions(trials)), deque[_Asked]()
    verdicts: list[list[Verdict]] = [[] for _ in trials]
    total = len(waiting)
    try:
        while waiting or running:
            _fill(answerer, trials, waiting, running)
            asked = running.popleft()
            verdicts[asked.trial].append(_verdict(asked))
            told(total - len(waiting) - len(running), total)
    finally:
        for left in running:
            if isinstance(left.answer, Answer):
                left.answer.cancel()
    return [_run(trial, found, actor, engine) for trial, found in zip(trials, verdicts, strict=True)]


def _fill(answerer: Answerer, trials: Sequence[Trial], waiting: deque[_Question], running: deque[_Asked]) -> None:
    """Ask until enough are under way. Raises EngineBusy if none is."""
    while waiting and len(running) < AT_ONCE:
        number, file, golden = waiting[0]
        try:
            running.append(_ask(answerer, trials[number], number, file, golden))
        except EngineBusy:
            if not running:
                raise
            return  # others ask too: it is its turn when one of ours has ended
        waiting.popleft()


def _questions(trials: Sequence[Trial]) -> Iterator[_Question]:
    for number, trial in enumerate(trials):
        for file in trial.suite.files:
            for golden in file.questions:
                yield number, file, golden


def _ask(answerer: Answerer, trial: Trial, number: int, file: GoldenFile, golden: GoldenQuestion) -> _Asked:
    question = Question((Turn("user", golden.question),), sampling=Sampling(max_tokens=golden.max_tokens))
    try:
        answer = answerer.try_out(question, trial.chain, LOCAL)
    except ContextExceeded as error:
        return _Asked(number, file, golden, error)
    return _Asked(number, file, golden, answer)


def _verdict(asked: _Asked) -> Verdict:
    golden, answer = asked.golden, asked.answer
    if isinstance(answer, ContextExceeded):
        return Verdict(asked.file.name, golden.question, "", (f"can be asked: {answer.message}",), golden.tags)
    text = answer.text().strip()
    return Verdict(
        asked.file.name,
        golden.question,
        text,
        judge(text, golden.expected),
        golden.tags,
        answer.usage.completion,
    )


def _run(trial: Trial, verdicts: Sequence[Verdict], actor: str, engine: Mapping[str, Any]) -> GoldenRun:
    record = trial.record
    return GoldenRun(
        module_id=record.module_id,
        version=record.version,
        digest=record.digest,
        suite=trial.suite.checksum,
        at=datetime.now(UTC),
        actor=actor,
        engine=engine,
        verdicts=tuple(_settled(trial.suite, verdicts)),
    )


def _settled(suite: Suite, verdicts: Sequence[Verdict]) -> list[Verdict]:
    settled: list[Verdict] = []
    for file in suite.files:
        settled += settle(file, verdicts[len(settled) : len(settled) + len(file.questions)])
    return settled
