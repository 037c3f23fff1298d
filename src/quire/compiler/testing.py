"""Golden tests of a build: what has to be asked, and what may not go live by the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quire.compiler.planning import ModulePlan
    from quire.golden import GoldenRun, Suite
    from quire.registry import Registry, VersionRecord

    # Asks versions their suites and keeps what comes of it. Told the number of answers so far, and of questions.
    Ask = Callable[[Sequence[tuple[VersionRecord, Suite]], Callable[[int, int], None]], list[GoldenRun]]


def run_tests(
    plans: Sequence[ModulePlan], registry: Registry, ask: Ask, told: Callable[[int, int], None], *, actor: str
) -> list[GoldenRun]:
    """Let every planned version declare its tests, and ask those that have not passed them on the bytes they have.

    A live version is asked too, where its golden files changed: it goes on serving, whatever comes of it.
    """
    pending: list[tuple[VersionRecord, Suite]] = []
    for plan in plans:
        record, suite = plan.record, plan.golden
        if record is None or plan.action == "withhold":
            continue
        if (suite is None or record.state != "live") and registry.golden.declared(record) != suite:
            registry.golden.declare(record, suite, actor=actor, reason="the golden files changed")
        if suite is not None:
            last = registry.golden.newest(record, suite)
            if last is None or not last.green or registry.golden.declared(record) != suite:
                pending.append((record, suite))
    return ask(pending, told) if pending else []


def withheld(plans: Sequence[ModulePlan], runs: Sequence[GoldenRun]) -> dict[str, str]:
    """The modules whose planned version may not go live, and why. `plans`: parents first."""
    red = {(run.module_id, run.version): run for run in runs if not run.green}
    found: dict[str, str] = {}
    for plan in plans:
        name, record, parent = plan.spec.module_id, plan.record, plan.parent
        if plan.action == "withhold":
            found[name] = "; ".join(map(str, plan.reasons))
        elif record is None or record.state == "live":
            continue
        elif run := red.get((record.module_id, record.version)):
            found[name] = run.complaint
        elif parent and parent.spec.module_id in found:
            found[name] = f"its parent {parent.spec.module_id} did not go live"
    return found
