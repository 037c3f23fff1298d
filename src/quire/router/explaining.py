"""A plan as JSON values, for whoever asks why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.core import Plan


def plan_values(plan: Plan) -> dict[str, Any]:
    """What was decided, by which stage, why; what was considered, and why the stages before did not decide."""
    return {
        "module": plan.module_id or None,
        "stage": plan.stage,
        "reason": plan.reason,
        "confidence": plan.confidence,
        "candidates": [
            {"module": c.module_id, "stage": c.stage, "score": round(c.score, 4), "reason": c.reason}
            for c in plan.candidates
        ],
        "passed": list(plan.passed),
    }
