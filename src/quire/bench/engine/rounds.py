"""Who answers what, in which order, and what is measured around it.

Every repetition goes through the levels upwards, and at each level every arm answers the same suffixes in its turn; the
order of the arms is turned by one each time, so that none always runs behind the same other one. While one arm works
the others must not: the processor time that they use meanwhile is measured and reported.

Memory is that of the first repetition: later ones find buffers that a larger level has left behind.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quire.bench.engine.arms import Arm, Said, alive
from quire.bench.engine.timing import Served, in_turn
from quire.bench.pages import cpu_seconds
from quire.errors import MeasurementFailed

if TYPE_CHECKING:
    from quire.bench.engine.options import ArmName, EngineOptions
    from quire.bench.engine.requests import Requests
    from quire.bench.figures import Say

SETTLE = 0.3  # seconds: threads of OpenMP go on looking for work for 0.2 after the last
IN_TURN: tuple[ArmName, ...] = ("transformers",)  # arms that answer one request after another
FEW = 4  # requests of a level that such an arm answers


@dataclass(frozen=True, slots=True)
class Run:
    """One arm at one level, once. `peak_bytes`: resident at most; `cores`: processor seconds per second.

    `measured`: requests that were answered; the others of the level follow from them (`timing.in_turn`).
    """

    arm: ArmName
    level: int
    repetition: int
    metrics: dict[str, float]
    first_tokens: list[float]
    token_ids: list[list[int]]
    measured: int
    peak_bytes: int
    cores: float
    cached: list[int] | None

    def to_json(self) -> dict[str, Any]:
        """The run as JSON values, its token ids left out."""
        return {
            **self.metrics,
            "first_token_seconds": [round(t, 6) for t in self.first_tokens],
            "measured_requests": self.measured,
            "peak_bytes": self.peak_bytes,
            "cores": round(self.cores, 3),
            "cached_tokens": self.cached,
        }


@dataclass(slots=True)
class Rounds:
    """All that was measured.

    `restarts`: seconds by arm; `kept`: Quire's, with its files' pages still in memory. `stayed`: largest share of the
    artifact's pages that the kernel did not forget for the others.
    `waited`, `idled`: seconds that an arm waited for the others, and processor seconds that it used meanwhile.
    """

    runs: list[Run] = field(default_factory=list)
    restarts: dict[ArmName, list[float]] = field(default_factory=dict)
    kept: list[float] = field(default_factory=list)
    stayed: float = 0.0
    waited: defaultdict[ArmName, float] = field(default_factory=lambda: defaultdict(float))
    idled: defaultdict[ArmName, float] = field(default_factory=lambda: defaultdict(float))

    def of(self, arm: ArmName, level: int) -> list[Run]:
        """The runs of one arm at one level, by repetition."""
        return [run for run in self.runs if (run.arm, run.level) == (arm, level)]


def measure_rounds(arms: list[Arm], requests: Requests, options: EngineOptions, say: Say) -> Rounds:
    """Let `arms` take turns. An arm that fails ends; the others go on."""
    found = Rounds()
    levels = options.levels if {"load", "memory"} & set(options.sections) else ()
    turn = 0
    for repetition in range(options.repeat):
        for level in levels:
            for arm in _turned(arms, turn):
                say(f"repetition {repetition + 1} of {options.repeat}, {level} at once: {arm.name}")
                _level(found, arms, arm, requests, (level, repetition), options.full)
            turn += 1
        if "restart" in options.sections:
            for arm in _turned(arms, turn):
                say(f"repetition {repetition + 1} of {options.repeat}, after a restart: {arm.name}")
                _restart(found, arms, arm, requests.restart[repetition])
    return found


def _turned(arms: list[Arm], turn: int) -> list[Arm]:
    living = [arm for arm, _ in alive(arms)]
    turn %= max(len(living), 1)
    return living[turn:] + living[:turn]


def _level(found: Rounds, arms: list[Arm], arm: Arm, requests: Requests, place: tuple[int, int], full: bool) -> None:
    level, repetition = place
    suffixes = requests.load[place]
    alone = arm.name in IN_TURN
    asked = suffixes[:FEW] if alone and not full else suffixes
    said = _work(found, arms, arm, {"do": "serve", "suffixes": asked, "tokens": requests.tokens})
    if said is None:
        return
    answer = said.answer
    try:
        check_answer(answer, arm, len(asked), requests)
    except MeasurementFailed as error:
        arm.give_up(error)
        return
    served = in_turn(answer["times"], level) if alone else Served(answer["times"])
    found.runs.append(
        Run(
            arm=arm.name,
            level=level,
            repetition=repetition,
            metrics=served.metrics(),
            first_tokens=served.first_tokens,
            token_ids=answer["token_ids"],
            measured=len(asked),
            peak_bytes=said.peak_bytes,
            cores=said.cores,
            cached=answer.get("cached"),
        )
    )


def _restart(found: Rounds, arms: list[Arm], arm: Arm, suffix: list[int]) -> None:
    if said := _work(found, arms, arm, {"do": "restart", "suffix": suffix}):
        found.restarts.setdefault(arm.name, []).append(said.answer["seconds"])
        found.kept += [said.answer["kept_seconds"]] if "kept_seconds" in said.answer else []
        found.stayed = max(found.stayed, said.answer.get("resident_share", 0.0))


def _work(found: Rounds, arms: list[Arm], arm: Arm, order: dict[str, Any]) -> Said | None:
    """What `arm` says to `order`; None if it ended. Notes what the others used meanwhile. Mutates `found`."""
    time.sleep(SETTLE)
    others = [(other.name, child.pid) for other, child in alive(arms) if other is not arm]
    before = [cpu_seconds(pid) for _, pid in others]
    said = arm.ask(order)
    if said:
        for (name, pid), used in zip(others, before, strict=True):
            found.waited[name] += said.seconds
            found.idled[name] += cpu_seconds(pid) - used
    return said


def check_answer(answer: dict[str, Any], arm: Arm, count: int, requests: Requests) -> None:
    """Refuse an answer that is not what was asked for, or that was not computed from the document's kept KV.

    Raises:
        MeasurementFailed.
    """
    found = {(len(t), len(ids)) for t, ids in zip(answer["times"], answer["token_ids"], strict=True)}
    if len(answer["times"]) != count or found != {(requests.tokens, requests.tokens)}:
        raise MeasurementFailed(
            f"expected {count} answers of {requests.tokens} tokens, found {len(answer['times'])} of {sorted(found)}"
        )
    block = arm.opened.get("block_size")
    if block and min(answer["cached"]) < requests.document // block * block:
        raise MeasurementFailed(
            f"expected {requests.document} tokens from the prefix cache, found {min(answer['cached'])}",
            hint="has vLLM memory for the document and all requests?",
        )
