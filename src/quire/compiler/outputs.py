"""What a version answers, against what the one before it answers: the golden questions, asked of both.

Nothing is judged here. A new layout may change every answer and yet pass the tests, and the other way round; whoever
changed it wants to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quire.access import tenant_of
from quire.errors import ModuleUnknown, NoLiveVersion
from quire.registry import AuditEvent, triggers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quire.compiler.planning import ModulePlan
    from quire.compiler.testing import Ask
    from quire.golden import GoldenRun, Suite, Verdict
    from quire.registry import Registry, Trigger, VersionRecord


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """A golden question that two versions answer otherwise."""

    question: str
    before: str
    after: str
    passed_before: bool
    passed_after: bool


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """Golden answers of two versions of a module. `before`, `after`: the versions. `questions`: how many were asked."""

    module_id: str
    before: str
    after: str
    triggers: tuple[Trigger, ...]
    questions: int
    changed: tuple[ChangedAnswer, ...]

    def __str__(self) -> str:
        return f"{self.questions - len(self.changed)} of {self.questions} golden answers are what they were"

    def as_json(self) -> dict[str, Any]:
        return {
            "module": self.module_id,
            "before": self.before,
            "after": self.after,
            "triggers": list(self.triggers),
            "questions": self.questions,
            "changed": [
                {
                    "question": one.question,
                    "before": one.before,
                    "after": one.after,
                    "passed_before": one.passed_before,
                    "passed_after": one.passed_after,
                }
                for one in self.changed
            ],
        }


def compare_outputs(
    plans: Sequence[ModulePlan], registry: Registry, ask: Ask, told: Callable[[int, int], None], *, actor: str
) -> list[OutputComparison]:
    """Old against new, of every planned version that is to take the place of a live one and has golden tests.

    Both were asked when they were tested. Where the layout changed, an old version that was never asked these questions
    is asked them now; after another change it may not even fit the model that is loaded.
    """
    pairs = [(plan, old, new, plan.golden) for plan in plans for old, new in _replaced(plan, registry)]
    missing: list[tuple[VersionRecord, Suite]] = []
    for plan, old, _, suite in pairs:
        triggers = triggers_of(plan.reasons)
        fits = not old.expired and not {"model", "tokenizer"} & set(triggers)
        if suite and fits and "layout" in triggers and registry.golden.newest(old, suite) is None:
            missing.append((old, suite))
    if missing:
        ask(missing, told)
    found: list[OutputComparison] = []
    for plan, old, new, suite in pairs:
        before, after = (registry.golden.newest(record, suite) if suite else None for record in (old, new))
        if before and after:
            found.append(_compared(plan, before, after))
            _note(registry, found[-1], new, actor)
    return found


def _replaced(plan: ModulePlan, registry: Registry) -> list[tuple[VersionRecord, VersionRecord]]:
    """The live version and the planned one, if these are two."""
    new = plan.record
    try:
        old = registry.live(plan.spec.module_id)
    except (ModuleUnknown, NoLiveVersion):
        return []
    return [(old, new)] if new and old.version != new.version and plan.action in ("compile", "reissue") else []


def _compared(plan: ModulePlan, before: GoldenRun, after: GoldenRun) -> OutputComparison:
    pairs = list(zip(before.verdicts, after.verdicts, strict=True))  # of one suite, hence in one order
    changed = tuple(_changed(old, new) for old, new in pairs if old.answer != new.answer)
    triggers = triggers_of(plan.reasons)
    return OutputComparison(before.module_id, before.version, after.version, triggers, len(pairs), changed)


def _changed(old: Verdict, new: Verdict) -> ChangedAnswer:
    return ChangedAnswer(new.question, old.answer, new.answer, old.passed, new.passed)


def _note(registry: Registry, found: OutputComparison, new: VersionRecord, actor: str) -> None:
    details = {"before": found.before, "questions": found.questions, "changed": len(found.changed)}
    event = AuditEvent(
        kind="invalidation.compared",
        who=actor,
        what=str(new.ref),
        why=f"{found}: {', '.join(found.triggers)} changed",
        digest=new.digest,
        tenant=tenant_of(new.scope, new.tenant_id),
        module=new.module_id,
        details=details,
    )
    registry.audit.record([event])
