"""The processes that are compared. One works at a time; the others wait for their next line and do nothing.

Each answers three orders, one line of JSON each (`quire.bench.processes`):

    open      load everything, make the document ready, answer one request -> threads, versions
    serve     suffixes, tokens -> times (seconds, per request and token), token_ids, and `cached` of vLLM
    restart   suffix -> seconds from having the model but not the document to the first token; Quire's also
              kept_seconds, with its files in the system's memory
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.bench.engine import vllm_arm
from quire.bench.engine.environment import bench_home, vllm_python
from quire.bench.engine.opening import opening, vllm_environ, vllm_space
from quire.bench.pages import cpu_seconds, peak_resident, reset_peak, resident
from quire.bench.processes import Child
from quire.errors import MeasurementFailed, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from quire.bench.engine.options import ArmName, EngineOptions
    from quire.bench.engine.requests import Requests
    from quire.bench.workbench import Workbench

TAIL = 12  # lines of a log that are kept of an arm that ended


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, the most bytes resident and the processor seconds per second meanwhile, and how long it took."""

    answer: dict[str, Any]
    peak_bytes: int
    cores: float
    seconds: float


@dataclass(slots=True)
class Arm:
    """One process. `opened`: its answer to `open`; `idle_bytes`: resident once it was open; `ended`: why, with `tail`,
    the end of its log, if it is no more."""

    name: ArmName
    log: Path
    child: Child | None = None
    opened: dict[str, Any] = field(default_factory=dict)
    idle_bytes: int = 0
    ended: str = ""
    tail: list[str] = field(default_factory=list)

    def ask(self, order: dict[str, Any]) -> Said | None:
        """What the arm says to `order`; None if it refused or died: it has `ended` then. Mutates."""
        if self.child is None:
            return None
        pid = self.child.pid
        try:
            reset_peak(pid)
            began, used = time.perf_counter(), cpu_seconds(pid)
            answer = self.child.ask(order)
            seconds = time.perf_counter() - began
            return Said(answer, peak_resident(pid), (cpu_seconds(pid) - used) / seconds, seconds)
        except MeasurementFailed as error:
            self.give_up(error)
            return None

    def give_up(self, error: MeasurementFailed) -> None:
        """End the process because of `error`. Mutates."""
        self.ended = error.message
        if self.child:
            self.child.kill()
            self.tail = self.child.tail(TAIL)
            self.child.close()
            self.child = None

    def to_json(self) -> dict[str, Any]:
        """What is to be known of it, as JSON values."""
        return {
            **self.opened,
            "idle_bytes": self.idle_bytes,
            "ended": self.ended or None,
            "tail": self.tail,
            "log": str(self.log),
        }


def start_arms(bench: Workbench, options: EngineOptions, requests: Requests, held: ExitStack) -> list[Arm]:
    """Start and open the arms, one after another. Those that do not open have `ended`. `held`: ends them."""
    arms = []
    for name in options.arms:
        bench.say(f"starting {name}")
        arm = _start(bench, options, requests, name, held)
        arms.append(arm)
        if arm.child:
            said = arm.ask(opening(bench, options, requests, name))
            arm.opened = {**said.answer, "seconds": said.seconds} if said else {}
        if arm.child:
            arm.idle_bytes = resident(arm.child.pid)
    return arms


def alive(arms: list[Arm]) -> Iterator[tuple[Arm, Child]]:
    """The arms that go on, with their processes."""
    for arm in arms:
        if arm.child:
            yield arm, arm.child


def _start(bench: Workbench, options: EngineOptions, requests: Requests, name: ArmName, held: ExitStack) -> Arm:
    log = bench_home() / "logs" / f"{name}.log"
    arm = Arm(name, log)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if name == "vllm":
            python = vllm_python(options.vllm, options.pip_flags, bench.say)
            environ = vllm_environ(python, vllm_space(bench, options, requests))
            command = [str(python), "-I", vllm_arm.__file__]
            arm.child = held.enter_context(Child("vllm", command=command, environ=environ, log=log))
        else:
            arm.child = held.enter_context(Child(f"quire.bench.engine.{name}_arm", log=log))
    except OSError as error:
        raise StoreError.from_os(error, log) from error
    except MeasurementFailed as error:
        arm.ended = f"{error.message}: {error.hint}"
    return arm
