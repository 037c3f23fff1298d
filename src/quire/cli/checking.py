"""`quire verify`, `quire gc`, `quire fsck`: is what we have right, and may some of it go?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quire.cli.building import BuildBar
from quire.cli.catalogue import resolve
from quire.cli.opening import open_project
from quire.cli.options import JsonOption, Modules, ProjectOption
from quire.cli.screen import Screen, size, table
from quire.cli.verdict import judge, told
from quire.errors import ArtifactError, QuireError, ResourceError, VerificationFailed
from quire.registry import actor

if TYPE_CHECKING:
    from quire.compiler import Comparison, Problem
    from quire.project import Project
    from quire.registry import VersionRecord

ELSEWHERE = "in the object store manifests and sizes were looked at; bytes are when they are fetched"


def verify(
    modules: Modules = None,
    question: Annotated[str, typer.Option("--question", "-q", help="What is asked both ways.")] = "What is this about?",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Greedy tokens to compare.")] = 24,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer from restored KV and from a full prefill by transformers, and compare tokens and logits.

    Exits with 5 where they differ by more than a near tie: two tokens that the full prefill itself had within half a
    logit of one another, in 16-bit arithmetic.
    """
    screen = Screen(as_json=as_json)
    with open_project(project, screen) as opened:
        records = [resolve(opened.registry, name) for name in modules or ()] or _live(opened)
        dtype = opened.model.geometry.dtype if records else "float32"
        found: list[tuple[VersionRecord, Comparison]] = []
        for record in records:
            with screen.waiting(f"verifying {record.ref}"):
                found.append((record, opened.verify(record, question, tokens=tokens)))
    made = table("module", "greedy tokens", "largest logit difference>")
    for record, comparison in found:
        made.add_row(str(record.ref), told(comparison, dtype), f"{comparison.largest_difference:.3g}")
    screen.show({"verified": [_comparison(r, c, dtype) for r, c in found]}, made)
    wrong = [str(record.ref) for record, comparison in found if judge(comparison, dtype) == "different"]
    if wrong:
        raise VerificationFailed(
            f"{len(wrong)} of {len(found)} modules answer otherwise than their text does: {', '.join(wrong)}",
            hint="run `quire fsck --repair`; if it stays, report the model and the numerics that `quire show` prints",
        )


def gc(
    keep: Annotated[
        int, typer.Option("--keep", min=0, help="Versions to keep of each module beside the live one.")
    ] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old versions. Never what is live, pinned, in use, or the ancestor of what is kept."""
    screen = Screen(as_json=as_json)
    with open_project(project, screen) as opened:
        from quire.compiler import build_lock, collect_garbage

        with build_lock(opened.settings.state):
            done = collect_garbage(opened.registry, opened.store, keep=keep, actor=actor(), dry_run=dry_run)
    would = "would remove" if dry_run else "removed"
    rows = table("what", "which")
    kinds = {
        "version": done.versions,
        "begun by an earlier gc": done.finished,
        "orphan": done.orphans,
        "left, in use": done.in_use,
    }
    for kind, names in kinds.items():
        for name in names:
            rows.add_row(kind, escape(name))
    screen.show(
        {
            "dry_run": dry_run,
            "versions": done.versions,
            "finished": done.finished,
            "orphans": done.orphans,
            "in_use": done.in_use,
            "freed_bytes": done.freed_bytes,
        },
        *([rows] if rows.row_count else []),
        f"{would} {len(done.versions)} versions and {len(done.orphans)} orphans, {size(done.freed_bytes)}",
    )


def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Remove what is damaged and compile it again.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find and name every damaged, missing, unreadable or orphaned piece. Exits with 6 while one is left.

    What a killed `quire gc` had begun to remove is named too, and is none of these: the next `quire gc` removes it.
    """
    screen = Screen(as_json=as_json)
    with open_project(project, screen) as opened:
        from quire.compiler import build_lock, find_problems

        with build_lock(opened.settings.state):
            found = find_problems(opened.registry, opened.store, advance=lambda name: None)
            if found and not as_json:
                screen.out.print(_problems(found))
            left, forgotten = _repair(opened, found, screen) if repair and found else (found, [])
            elsewhere = opened.store.remote is not None
    interrupted = [p.subject for p in left if p.kind == "interrupted"]
    found, left = ([p for p in problems if p.kind != "interrupted"] for problems in (found, left))
    screen.show(
        {
            "problems": [_problem(p) for p in found],
            "remaining": [_problem(p) for p in left],
            "interrupted": interrupted,
            "forgotten": forgotten,
        },
        *([_problems(left)] if repair and left else []),
        *([f"forgotten, as nothing can compile them again: {', '.join(forgotten)}"] if forgotten else []),
        *([f"removals to be finished by `quire gc`: {len(interrupted)}"] if interrupted else []),
        "no problems" if not found else f"{len(found)} found, {len(left)} left",
        *([ELSEWHERE] if elsewhere else []),
    )
    if left:
        raise ArtifactError(
            f"problems left: {len(left)}",
            hint="see the remedy of each" if repair else "run `quire fsck --repair`",
        )


def _repair(project: Project, found: list[Problem], screen: Screen) -> tuple[list[Problem], list[str]]:
    """Remove, compile again, forget what cannot be had again. The caller holds the build lock.

    Gives the problems that are left and the names of the versions that were forgotten.
    """
    from quire.compiler import find_problems, forget_unrepairable, remove_broken, run_build

    try:
        rebuildable = {f"{plan.spec.module_id}@{plan.version}" for plan in project.plan()}
    except ResourceError:
        raise  # nothing is known then of what can be compiled again
    except QuireError as error:  # its sources may be gone; what else is broken is still worth mending
        screen.note(f"nothing is compiled again: {error.message}")
        rebuildable = set()
    remove_broken(found, project.store, rebuildable=rebuildable)
    project.store.sweep()
    try:
        plans = project.plan()
        with BuildBar(plans, screen) as bar:
            run_build(
                plans, lambda: project.model, project.registry, project.store, bar, actor=actor(), ask=project.test
            )
    except ResourceError:
        raise
    except QuireError as error:  # its sources may be gone; what else is broken is still worth mending
        screen.note(f"not compiled again: {error.message}")
    forgotten = forget_unrepairable(found, project.registry, project.store, actor=actor())
    return find_problems(project.registry, project.store, advance=lambda name: None), forgotten


def _live(project: Project) -> list[VersionRecord]:
    return [project.registry.live(m.module_id) for m in project.registry.modules() if m.live]


def _comparison(record: VersionRecord, found: Comparison, dtype: str) -> dict[str, Any]:
    return {
        "module": record.module_id,
        "version": record.version,
        "verdict": judge(found, dtype),
        "tokens": found.tokens,
        "agreeing": found.agreeing,
        "gap": found.gap,
        "largest_logit_difference": found.largest_difference,
    }


def _problems(problems: list[Problem]) -> Any:
    made = table("problem", "where", "what was found", "remedy")
    for problem in problems:
        made.add_row(problem.kind, escape(problem.subject), escape(problem.detail), escape(problem.remedy))
    return made


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "kind": problem.kind,
        "subject": problem.subject,
        "detail": problem.detail,
        "remedy": problem.remedy,
    }
