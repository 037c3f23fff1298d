"""`quire demo`: an example knowledge base, asked from restored modules and by full prefill, side by side.

Both times are to the first token, measured one after the other in this process, on the same token ids. Restored: open
and check the chain's artifacts where they are not open yet (*cold*), then prefill the question. Full prefill: chain and
question together, in the way that is fastest on this machine (`quire.bench.full_prefill`), tried once for each module.
The ratio is about (chain + question) / question tokens of work, less what opening and attention over the chain cost.
Whether the tokens are the same is judged by itself, against the plain transformers model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quire.cli.building import build_watched, outcome, plan_table, speed_for
from quire.cli.golden import check_all_live
from quire.cli.opening import open_project
from quire.cli.options import JsonOption
from quire.cli.questions import Asked, read_questions
from quire.cli.screen import Screen, duration, short, table
from quire.cli.verdict import judge, told
from quire.core import KVSegment, Turn

if TYPE_CHECKING:
    from rich.table import Table

    from quire.bench.full_prefill import FullPrefill, Ways
    from quire.compiler import Comparison
    from quire.core import ModuleRef, Plan
    from quire.model import LoadedModel
    from quire.pool import Restored
    from quire.project import Project

EXAMPLE = Path("examples") / "skerrivane"


@dataclass(frozen=True, slots=True)
class Shown:
    """One question, answered both ways.

    `suffix_seconds`: of computing the question behind restored KV. `measured`: seconds of a full prefill, by each way
    that may be the fastest for this module (`full_prefill`).
    """

    asked: Asked
    plan: Plan
    module: ModuleRef
    restored: Restored
    suffix_seconds: float
    full_prefill: FullPrefill
    measured: dict[str, float]
    comparison: Comparison
    answer: str
    dtype: str

    @property
    def restored_seconds(self) -> float:
        return self.restored.seconds + self.suffix_seconds

    @property
    def by(self) -> str:
        """The fastest way to a full prefill."""
        return min(self.measured, key=self.measured.__getitem__)

    @property
    def prefill_seconds(self) -> float:
        return self.measured[self.by]

    @property
    def ratio(self) -> float:
        return self.prefill_seconds / self.restored_seconds

    @property
    def right(self) -> bool:
        return self.asked.answered_by(self.answer)


def demo(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="A project with a questions.toml.")] = EXAMPLE,
    questions: Annotated[
        int, typer.Option("--questions", min=0, help="How many to ask, of each module in turn; 0: all.")
    ] = 6,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Greedy tokens to compare.")] = 24,
    as_json: JsonOption = False,
) -> None:
    """Build the example and ask its questions, restored and by full prefill, side by side."""
    from quire.bench.full_prefill import Ways

    screen = Screen(as_json=as_json)
    chosen = read_questions(directory, questions or None)
    with open_project(directory, screen) as project:
        with screen.waiting("reading sources"):
            plans = project.plan()
        if any(plan.action != "current" for plan in plans):
            if not as_json:
                screen.out.print(plan_table(project, plans, speed_for(project, plans, screen)))
            report, seconds = build_watched(project, (), plans, screen)
            if report.red and not as_json:
                screen.out.print(*outcome(report, seconds), sep="\n")
            check_all_live(report, (), screen)
        else:
            screen.note(f"{len(plans)} modules are up to date: nothing to compile")
        with screen.waiting("loading the model"):
            warm_up(project)
        shown: list[Shown] = []
        tried: dict[str, FullPrefill] = {}
        ways = Ways(project.model, chunk=project.settings["build.prefill_chunk"])
        for number, asked in enumerate(chosen, start=1):
            with screen.waiting(f"asking {number} of {len(chosen)}: {asked.text}"):
                shown.append(ask_both_ways(project, asked, tokens, ways, tried))
            if not as_json:
                screen.out.print(*described(number, shown[-1]), sep="\n", highlight=False)
    screen.show(
        {"questions": [values(one) for one in shown], "summary": summary_values(shown)},
        "",
        summary(shown),
        "[dim]Times are to the first token, medians; cold: the module was opened and checked for this question.[/dim]",
        *(f"[dim]{line}[/dim]" for line in ways_told(shown)),
    )


def ask_both_ways(project: Project, asked: Asked, tokens: int, ways: Ways, tried: dict[str, FullPrefill]) -> Shown:
    """Route `asked`, lease its chain, and answer from restored KV and by full prefill.

    Args:
        tried: what `ways` found for each module, by its digest. Mutated: a module that is not among them is tried.

    Raises:
        as `Answerer.prepare`.
    """
    from quire.access import LOCAL
    from quire.answering import Question
    from quire.compiler import compare

    model = project.model
    prepared = project.runtime.answerer.prepare(Question((Turn("user", asked.text),)), LOCAL)
    try:
        chain, suffix_ids = prepared.lease.segments, prepared.suffix_ids
        suffix_seconds = first_token(model, chain, suffix_ids)
        token_ids = [*prepared.lease.token_ids, *suffix_ids]
        ref = prepared.module.ref
        if ref.digest not in tried:
            tried[ref.digest] = ways.attempt(token_ids)
        measured = tried[ref.digest].measure(token_ids)
        found = compare(model, chain, prepared.lease.token_ids, suffix_ids, tokens=tokens, stepwise=False)
    finally:
        prepared.release()
    answer = model.tokenizer.decode(found.token_ids).strip()
    timed = (prepared.restored, suffix_seconds, tried[ref.digest], measured)
    return Shown(asked, prepared.plan, ref, *timed, found, answer, model.geometry.dtype)


def first_token(model: LoadedModel, chain: tuple[KVSegment, ...], suffix_ids: list[int]) -> float:
    """Seconds from restored KV to the first token after `suffix_ids`."""
    from quire.model import prefill

    began = time.perf_counter()
    int(prefill(model, chain, model.new_kv(), suffix_ids, len(suffix_ids)).argmax())
    return time.perf_counter() - began


def warm_up(project: Project) -> None:
    """Run both ways once on a few tokens of no module: the first pass of a process pays for its kernels."""
    from quire.compiler import compare
    from quire.model import prefill

    _ = project.runtime
    few = project.model.tokenizer.words("Good morning, what can be done here today?")
    kv = project.model.new_kv()
    prefill(project.model, (), kv, few, len(few))
    keys, values = (tuple(t[:, : len(few)] for t in side) for side in (kv.keys, kv.values))
    compare(project.model, (KVSegment(keys, values, 0, len(few)),), few, few, tokens=2)


def described(number: int, one: Shown) -> list[str]:
    """A question, its answer, and how it came about."""
    fact = (
        "[green]as expected[/green]"
        if one.right
        else f"[yellow]expected {escape(', '.join(one.asked.expect))}[/yellow]"
    )
    restored = one.restored
    return [
        f"\n[bold]{number}. {escape(one.asked.text)}[/bold]",
        f"   {escape(one.answer)}  ({fact})",
        f"   [dim]route[/dim] {one.plan.stage}: {escape(one.plan.reason)}",
        f"   [dim]module[/dim] {escape(str(one.module))} {short(one.module.digest)} [dim]·[/dim] "
        f"{restored.tokens:,} tokens restored {restored.tier} in {duration(restored.seconds)}",
        f"   [dim]first token[/dim] {duration(one.restored_seconds)} restored, {duration(one.prefill_seconds)} "
        f"by full prefill ({escape(one.by)}): [bold]{one.ratio:.1f}x[/bold] [dim]·[/dim] same tokens: "
        f"{told(one.comparison, one.dtype)}",
    ]


def ways_told(shown: list[Shown]) -> list[str]:
    """What the full prefill is and what else was tried, for the longest of the modules."""
    if not shown:
        return []
    longest = max((one.full_prefill for one in shown), key=lambda found: found.tokens)
    tried = ", ".join(f"{name} {duration(s)}" for name, s in sorted(longest.tried.items(), key=lambda item: item[1]))
    left_out = "".join(f"; not {name}: {why}" for name, why in longest.left_out.items())
    return [
        f"Full prefill: the fastest of this machine. Tried for {longest.tokens:,} tokens: {escape(tried + left_out)}."
    ]


def summary(shown: list[Shown]) -> Table:
    """Medians by module and over all."""
    made = table("module", "questions>", "restored>", "full prefill>", "ratio>", "cold>", "same tokens>", "facts>")
    for row in summary_values(shown):
        same = f"{row['same']}" + (f" + {row['near_ties']} near ties" if row["near_ties"] else "")
        made.add_row(
            escape(row["module"]) if row["module"] else "[bold]all[/bold]",
            str(row["questions"]),
            duration(row["restored_seconds"]),
            duration(row["prefill_seconds"]),
            f"[bold]{row['ratio']:.1f}x[/bold]",
            f"{row['cold_ratio']:.1f}x" if row["cold_ratio"] else "",
            f"{same} of {row['questions']}",
            f"{row['right']} of {row['questions']}",
        )
    return made


def summary_values(shown: list[Shown]) -> list[dict[str, Any]]:
    """The summary as JSON values: one entry per module, then one over all with the module null."""
    modules = list(dict.fromkeys(one.module.module_id for one in shown))
    groups = [(m, [one for one in shown if one.module.module_id == m]) for m in modules]
    return [_group(name, group) for name, group in [*groups, (None, shown)]]


def _group(module: str | None, group: list[Shown]) -> dict[str, Any]:
    verdicts = [judge(one.comparison, one.dtype) for one in group]
    cold = [one.ratio for one in group if one.restored.tier != "warm"]
    return {
        "module": module,
        "questions": len(group),
        "restored_seconds": median(one.restored_seconds for one in group),
        "prefill_seconds": median(one.prefill_seconds for one in group),
        "prefill_by": list(dict.fromkeys(one.by for one in group)),
        "ratio": median(one.ratio for one in group),
        "cold_ratio": median(cold) if cold else None,
        "same": verdicts.count("same"),
        "near_ties": verdicts.count("near tie"),
        "right": sum(one.right for one in group),
    }


def values(one: Shown) -> dict[str, Any]:
    """A question as JSON values."""
    return {
        "question": one.asked.text,
        "answer": one.answer,
        "expected": list(one.asked.expect),
        "right": one.right,
        "stage": one.plan.stage,
        "reason": one.plan.reason,
        "expected_module": one.asked.module,
        "module": one.module.module_id,
        "version": one.module.version,
        "digest": one.module.digest,
        "tier": one.restored.tier,
        "restored_tokens": one.restored.tokens,
        "restore_seconds": one.restored.seconds,
        "restored_seconds": one.restored_seconds,
        "prefill_seconds": one.prefill_seconds,
        "prefill_by": one.by,
        "prefill_measured": one.measured,
        "prefill_tried": dict(one.full_prefill.tried),
        "prefill_left_out": dict(one.full_prefill.left_out),
        "ratio": one.ratio,
        "verdict": judge(one.comparison, one.dtype),
        "agreeing": one.comparison.agreeing,
        "tokens": one.comparison.tokens,
        "gap": one.comparison.gap,
    }
