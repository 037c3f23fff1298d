"""Which module answers: the stages in their order, over the partitions that the principal may read.

Whatever can be found about a module lies in the partition of its scope. Routing opens the partitions of the scopes it
is given and no other, so a hidden module costs no time, takes no part in a score and stands in no reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from quire.access import Reach
from quire.core import Candidate, Plan, Scope, Stage
from quire.router import classifier, explicit, rules, semantic
from quire.router.calibration import confidence
from quire.router.features import Weights, example_features
from quire.router.hints import NO_HINTS, Hints
from quire.router.learning import Learned, unpack
from quire.router.reading import Reading

if TYPE_CHECKING:
    from quire.router.table import RoutedModule, RouteTable

SHOWN = 8  # candidates in a plan
COMPARED = 3  # modules that a learned stage shows
NAMED = 5  # words in a reason


@dataclass(frozen=True, slots=True)
class Partition:
    """The modules of one scope, in the order of their declaration, and what each stage knows of them.

    `with_examples`: the rows of the classifier.
    """

    modules: list[RoutedModule]
    with_examples: list[RoutedModule]
    hints: explicit.HintIndex
    rules: rules.RuleIndex
    learned: Learned

    @classmethod
    def of(cls, modules: list[RoutedModule], learned: Learned) -> Partition:
        with_examples = [module for module in modules if module.route.examples]
        return cls(modules, with_examples, explicit.index_hints(modules), rules.index_rules(modules), learned)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a stage makes of a question: the candidates, best first, and why it does not decide; "" if it does.

    `reason`: why it does; "" where the best candidate says it.
    """

    candidates: Sequence[Candidate] = ()
    undecided: str = ""
    reason: str = ""
    confidence: float = 1.0


class Router:
    """Routes by one table. Immutable; threads may share it. `unusable`: patterns that are left out, and why."""

    def __init__(self, table: RouteTable) -> None:
        """Raises RouteTableInvalid for weights that do not read."""
        self.table = table
        by_scope: dict[Scope, list[RoutedModule]] = {}
        for module in table.modules:
            by_scope.setdefault(module.scope, []).append(module)
        learned = unpack(table.weights, list(by_scope)) if by_scope else {}
        self.partitions = {scope: Partition.of(modules, learned[scope]) for scope, modules in by_scope.items()}
        self.unusable = [told for partition in self.partitions.values() for told in partition.rules.unusable]

    def route(self, question: str, *, module: str | None = None, hints: Hints = NO_HINTS, reach: Reach) -> Plan:
        """Decide who answers `question`, of the modules within `reach`.

        `module`: ``name`` or ``name@version`` as the caller named it. It answers, whether or not there is one of that
        name: who resolves it finds out, and checks that it may be read.

        Where no stage decides, the plan's stage is "fallback" and its module "".
        """
        if module is not None:
            name, _, version = module.partition("@")
            named = Candidate(name, "explicit", 1.0, f"the request names {module}")
            return self._plan(Decision([named]), (), (), version=version or None)
        return self._first_decision(Reading(question), hints, list(reach.select(self.partitions)))

    def _first_decision(self, reading: Reading, hints: Hints, partitions: Sequence[Partition]) -> Plan:
        stages = self.table.stages
        asked: tuple[tuple[Stage, bool, Callable[[], Decision]], ...] = (
            ("explicit", stages.explicit, partial(by_hints, hints, partitions)),
            ("rule", stages.rules, partial(by_rules, reading, hints, partitions)),
            ("classifier", stages.classifier, partial(by_examples, reading, partitions, stages.classifier_confidence)),
            ("semantic", stages.semantic, partial(by_text, reading, partitions, stages.semantic_confidence)),
        )
        considered: list[Candidate] = []
        passed: list[str] = []
        for stage, is_on, decide in asked:
            decision = decide() if is_on else Decision(undecided="switched off")
            if not decision.undecided:
                return self._plan(decision, considered, passed)
            considered += decision.candidates
            passed.append(f"{stage}: {decision.undecided}")
        reason = "; ".join(passed)
        return Plan("", "fallback", reason, 0.0, tuple(considered[:SHOWN]), tuple(passed), table=self.table.digest)

    def _plan(
        self, decision: Decision, considered: Iterable[Candidate], passed: Iterable[str], *, version: str | None = None
    ) -> Plan:
        best = decision.candidates[0]
        candidates = (*decision.candidates, *considered)[:SHOWN]
        return Plan(
            best.module_id,
            best.stage,
            decision.reason or best.reason,
            decision.confidence,
            candidates,
            tuple(passed),
            version,
            self.table.digest,
        )


def by_hints(hints: Hints, partitions: Sequence[Partition]) -> Decision:
    if not any(explicit.given_hints(hints)):
        return Decision(undecided="the request gives no hint")
    named = sorted((n for p in partitions for n in p.hints.match(hints)), key=explicit.order_of)
    said = ", ".join(" ".join(hint) for hint in explicit.given_hints(hints))
    return Decision(_sure("explicit", named), "" if named else f"no module is declared for {said}")


def by_rules(reading: Reading, hints: Hints, partitions: Sequence[Partition]) -> Decision:
    metadata = dict(hints.metadata)
    matched = sorted((m for p in partitions for m in p.rules.match(reading, metadata)), key=rules.order_of)
    unusable = [f"{told} (left out)" for p in partitions for told in p.rules.unusable]
    undecided = "; ".join(["no keyword, pattern or condition applies", *unusable])
    return Decision(_sure("rule", matched), "" if matched else undecided)


def by_examples(reading: Reading, partitions: Sequence[Partition], least: float) -> Decision:
    known = [p for p in partitions if p.learned.classifier.postings.count]
    if not known:
        return Decision(undecided="no module has examples")
    parts = [p.learned.classifier.postings for p in known]
    scores = classifier.similarities(parts, example_features(reading.tokens))
    ranked = _ranked(scores, [p.with_examples for p in known])
    winner, top = ranked[0][0], [score for _, _, score in ranked]
    if not top[0]:
        return Decision(undecided="it is like no example")
    sure = confidence(known[winner].learned.classifier.coefficients, classifier.measure(top))
    reason = f"most like the examples of {ranked[0][1].module_id}: similarity {top[0]:.2f}"
    if len(top) > 1:
        reason += f", {top[1]:.2f} to those of {ranked[1][1].module_id}"
    return _weighed("classifier", ranked, reason, sure, least)


def by_text(reading: Reading, partitions: Sequence[Partition], least: float) -> Decision:
    if not partitions:
        return Decision(undecided="there are no modules")
    texts = [p.learned.text for p in partitions]
    sought = semantic.seek([text.postings for text in texts], reading)
    best = [semantic.best_of_modules(s, text.first) for s, text in zip(sought.scores, texts, strict=True)]
    ranked = _ranked(best, [p.modules for p in partitions])
    winner, top = ranked[0][0], [score for _, _, score in ranked]
    if not top[0]:
        return Decision(undecided="no text has a word of it")
    sure = confidence(texts[winner].coefficients, semantic.measure(top, sought.most))
    passage = int(np.argmax(sought.scores[winner]))
    found = texts[winner].postings.has(passage, sought.positions[winner])
    rarest = [sought.words[i] for i in np.argsort(-sought.rarity, kind="stable") if found[i]]
    words = ", ".join([word for word in rarest if not word.endswith("*")][:NAMED] or rarest[:1])
    reason = f"the best passage is one of {ranked[0][1].module_id}: score {top[0]:.1f}"
    if len(top) > 1:
        reason += f", {top[1]:.1f} in {ranked[1][1].module_id}"
    return _weighed("semantic", ranked, reason, sure, least, f"a passage has {words}")


Ranked = list[tuple[int, "RoutedModule", float]]  # partition, module, score; best first


def _ranked(scores: Sequence[Weights], modules: Sequence[Sequence[RoutedModule]]) -> Ranked:
    """The best few modules of all partitions. Between equals the order of declaration decides."""
    found: Ranked = []
    for number, (each, of) in enumerate(zip(scores, modules, strict=True)):
        least = np.partition(each, -COMPARED)[-COMPARED] if len(each) > COMPARED else -np.inf
        tied = np.flatnonzero(each >= least)
        best = tied[np.argsort(-each[tied], kind="stable")][:COMPARED]
        found += [(number, of[row], float(each[row])) for row in best.tolist()]
    return sorted(found, key=lambda one: (-one[2], one[1].order))[:COMPARED]


def _weighed(stage: Stage, ranked: Ranked, reason: str, sure: float, least: float, found: str = "") -> Decision:
    """The decision of a learned stage, which abstains where it is not sure enough.

    `found`: what speaks for the best candidate, in words of the question. They stand with the candidate alone: the
    reason of a plan goes into the audit log, and questions do not.
    """
    candidates = [
        Candidate(module.module_id, stage, score, "" if place else found)
        for place, (_, module, score) in enumerate(ranked)
    ]
    undecided = "" if sure >= least else f"{reason}; confidence {sure:.2f}, which is less than {least:.2f}"
    return Decision(candidates, undecided, reason, sure)


def _sure(stage: Stage, found: Sequence[explicit.Named | rules.Matched]) -> list[Candidate]:
    return [Candidate(one.module.module_id, stage, 1.0, one.reason) for one in found]
