"""How long each stage takes, with very many modules.

The physics: hints and keywords are looked up in dictionaries, so their time depends on the length of the question and
not on the number of modules. Expressions run only if a literal that they need is in the question; those without one
run always. The two learned stages add up, for each feature of the question, the list of modules or passages that have
it: time grows with the lists, whose entries are 8 bytes each. Everything runs in one thread of Python and numpy.

Each question is timed by itself, its reading included, and figures are percentiles over questions: a mean would hide
what one caller waits. Garbage is collected as in a server that runs.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from quire.access import Principal, readable_scopes
from quire.bench.figures import Figure, Say, Target, at_most
from quire.bench.routing.made_up import SCOPES, MadeUp, make_up
from quire.model import processor_name
from quire.router import Hints, Router, build_table
from quire.router.reading import Reading
from quire.router.router import by_examples, by_hints, by_rules, by_text

if TYPE_CHECKING:
    from quire.router.router import Partition

WARM_UP = 50  # questions
NAIVE = 100  # questions for which every rule is tried
ASKED = Principal(
    "acme", "ann", frozenset(s.owner.partition("/")[2] for s in SCOPES if s.kind == "workspace"), frozenset({"reader"})
)


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """A finished run."""

    machine: dict[str, Any]
    subject: dict[str, int]
    sections: dict[str, list[Figure]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without the single questions."""
        figures = {name: [figure.to_json() for figure in each] for name, each in self.sections.items()}
        missed = [f"{s}: {f.name}" for s, each in self.sections.items() for f in each if f.met is False]
        return {
            "benchmark": "route",
            "quire": version("quire"),
            "machine": self.machine,
            "subject": self.subject,
            "sections": figures,
            "missed": missed,
        }


def measure_speed(modules: int, rules: int, questions: int, say: Say) -> SpeedReport:
    """Make up a table, train it, and time every stage on every question."""
    say(f"making up {modules:,} modules")
    made = make_up(modules, rules, questions + WARM_UP)
    say("training")
    began = time.perf_counter()
    table = build_table(made.modules, outside=[text for text, _ in made.questions[:WARM_UP]])
    trained = time.perf_counter() - began
    say("loading")
    began = time.perf_counter()
    router = Router(table)
    loaded = time.perf_counter() - began
    partitions = list(readable_scopes(ASKED).select(router.partitions))
    gc.collect()
    sections = {
        name: _percentiles(_time(ask, made.questions, say, name), target)
        for name, ask, target in _stages(router, partitions)
    }
    sections["rule"].append(_naive(made, say))
    sections["table"] = [
        Figure(name="training", value=trained, unit="s"),
        Figure(name="loading", value=loaded, unit="s"),
        Figure(name="document", value=len(table.document) / 1e6, unit="MB"),
        Figure(name="weights", value=len(table.weights) / 1e6, unit="MB"),
    ]
    subject = {"modules": modules, "rules": rules, "questions": questions, "scopes": len(partitions)}
    return SpeedReport({"cpu": processor_name(), "numpy": np.__version__}, subject, sections)


Asking = Callable[[str, Hints], object]


def _stages(router: Router, partitions: list[Partition]) -> list[tuple[str, Asking, Target | None]]:
    reach = readable_scopes(ASKED)
    return [
        ("explicit", lambda text, hints: by_hints(hints, partitions), at_most(1.0)),
        ("rule", lambda text, hints: by_rules(Reading(text), hints, partitions), at_most(1.0)),
        ("classifier", lambda text, hints: by_examples(Reading(text), partitions, 0.5), at_most(5.0)),
        ("semantic", lambda text, hints: by_text(Reading(text), partitions, 0.5), None),
        ("all stages", lambda text, hints: router.route(text, reach=reach), None),
    ]


def _time(ask: Asking, questions: Iterable[tuple[str, Hints]], say: Say, name: str) -> list[float]:
    """Seconds for each question after the first few."""
    say(f"timing: {name}")
    seconds: list[float] = []
    for text, hints in questions:
        began = time.perf_counter()
        ask(text, hints)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def _percentiles(seconds: list[float], target: Target | None) -> list[Figure]:
    values = np.percentile(np.array(seconds) * 1e3, [50, 95, 99, 100])
    names = ("median", "p95", "p99", "longest")
    return [
        Figure(name=name, value=float(value), unit="ms", target=target if name == "p99" else None)
        for name, value in zip(names, values, strict=True)
    ]


def _naive(made: MadeUp, say: Say) -> Figure:
    """What trying every rule would take."""
    expressions = [
        re.compile(text, re.IGNORECASE)
        for module in made.modules
        for text in (
            *module.spec.route.patterns,
            *(rf"(?<!\w){re.escape(keyword)}(?!\w)" for keyword in module.spec.route.keywords),
        )
    ]

    def try_all(text: str, _: Hints) -> None:
        for expression in expressions:
            expression.search(text)

    seconds = _time(try_all, islice(made.questions, WARM_UP + NAIVE), say, "every rule")
    note = f"{len(expressions):,} expressions, {NAIVE} questions"
    return Figure(name="trying every rule, median", value=float(np.median(seconds)) * 1e3, unit="ms", note=note)
