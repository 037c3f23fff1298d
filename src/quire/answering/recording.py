"""What the audit log is told about questions: who was sent where and why, and their words only if asked for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from quire.core import Delta
from quire.registry import AuditEvent, recordable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.access import Principal
    from quire.core import Plan
    from quire.errors import QuireError
    from quire.registry import Recorder, VersionRecord
    from quire.scheduler import Sink

LONGEST_WHY = (
    1000  # characters: a reason repeats what a caller sent and every rule that applied, and the log has a limit
)


class Recording:
    """Chooses which decisions are recorded, and with what. Thread-safe."""

    def __init__(self, recorder: Recorder, *, routes: float, texts: bool) -> None:
        """`routes`: the share of decisions to record, 0 to 1. `texts`: questions and answers too."""
        self._recorder = recorder
        self._routes = routes
        self._texts = texts

    def decided(self, principal: Principal, plan: Plan, chain: Sequence[VersionRecord]) -> None:
        """A question was sent to the last of `chain`, or, if it is empty, nowhere."""
        if random.random() >= self._routes:  # noqa: S311 - nothing depends on nobody guessing it
            return
        details = {
            "stage": plan.stage,
            "confidence": plan.confidence,
            "table": plan.table,
            "candidates": [candidate.module_id for candidate in plan.candidates],
        }
        self._record("route.decision", principal, plan.reason, chain, details)

    def listening(self, principal: Principal, question: str, chain: Sequence[VersionRecord], sink: Sink) -> Sink:
        """`sink`, and where texts are asked for, a record of question and answer when it has ended, however it did."""
        if not self._texts:
            return sink
        said: list[str] = []

        def listen(item: Delta | QuireError) -> None:
            if isinstance(item, Delta):
                said.append(item.text)
            why = item.finish_reason if isinstance(item, Delta) else item.code
            if why:
                texts = {"question": question, "answer": "".join(said)}
                self._record("answer.given", principal, why, chain, texts)
            sink(item)

        return listen

    def _record(
        self, kind: str, principal: Principal, why: str, chain: Sequence[VersionRecord], details: dict[str, Any]
    ) -> None:
        leaf = chain[-1] if chain else None
        why = recordable(why)
        self._recorder.record(
            AuditEvent(
                kind=kind,
                who=str(principal),
                what=str(leaf.ref) if leaf else "no module",
                why=why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 3]}...",
                digest=leaf.digest if leaf else "",
                tenant=principal.tenant,
                module=leaf.module_id if leaf else None,
                details=details,
            )
        )
