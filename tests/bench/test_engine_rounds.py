"""Arms take turns; one that dies or does other work than it was given is out, and the others go on.

The arms here are small processes that speak the protocol and write down when they were asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from quire.bench.engine import rounds
from quire.bench.engine.arms import Arm
from quire.bench.engine.options import ArmName, EngineOptions
from quire.bench.engine.requests import Requests
from quire.bench.engine.rounds import FEW, Rounds, measure_rounds
from quire.bench.processes import Child

SPEAKER = """
import json, sys
name, diary, told = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for number, line in enumerate(sys.stdin):
    order = json.loads(line)
    if number == told.get("dies_at"):
        sys.exit("out of luck")
    asked = len(order.get("suffixes", [0]))
    with open(diary, "a", encoding="utf-8") as file:
        print(name, order["do"], asked, file=file)
    if order["do"] == "serve":
        tokens = told.get("tokens", order["tokens"])
        answer = {"times": [[i + 1.0 for i in range(tokens)]] * asked, "token_ids": [[7] * tokens] * asked}
        answer["cached"] = [told.get("cached", 0)] * asked
    else:
        answer = {"seconds": 0.5}
    print(json.dumps(answer), flush=True)
"""
DOCUMENT, TOKENS = 300, 3


@pytest.fixture(autouse=True)
def _nothing_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speakers have no threads that go on looking for work."""
    monkeypatch.setattr(rounds, "SETTLE", 0.0)


class Stage:
    """Starts speakers as arms and lets them take turns."""

    def __init__(self, directory: Path, held: ExitStack) -> None:
        self.diary = directory / "diary"
        self._directory = directory
        self._held = held

    def arm(self, name: ArmName, **told: int) -> Arm:
        arm = Arm(name, self._directory / f"{name}.log")
        command = [sys.executable, "-c", SPEAKER, name, str(self.diary), json.dumps(told)]
        arm.child = self._held.enter_context(Child(name, command=command, log=arm.log))
        return arm

    def play(self, *arms: Arm, levels: tuple[int, ...] = (1, 6), repeat: int = 2, only: str = "load") -> Rounds:
        load = {(level, n): [[1, 2]] * level for level in levels for n in range(repeat)}
        options = EngineOptions(levels=levels, repeat=repeat, sections=(only,))  # type: ignore[arg-type]
        requests = Requests(DOCUMENT, [1], load, [[3]] * repeat, TOKENS)
        return measure_rounds(list(arms), requests, options, lambda _: None)

    @property
    def entries(self) -> list[str]:
        return self.diary.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as held:
        yield Stage(tmp_path, held)


def test_arms_take_turns_and_the_first_one_changes(stage: Stage) -> None:
    found = stage.play(stage.arm("quire"), stage.arm("vllm"))
    assert stage.entries == [
        "quire serve 1",
        "vllm serve 1",
        "vllm serve 6",
        "quire serve 6",
        "quire serve 1",
        "vllm serve 1",
        "vllm serve 6",
        "quire serve 6",
    ]
    assert [run.repetition for run in found.of("quire", 6)] == [0, 1]
    assert set(found.waited) == {"quire", "vllm"}


def test_an_arm_that_answers_in_turn_is_asked_a_few_and_scaled(stage: Stage) -> None:
    found = stage.play(stage.arm("transformers"), repeat=1)
    assert stage.entries == ["transformers serve 1", f"transformers serve {FEW}"]
    (run,) = found.of("transformers", 6)
    assert run.measured == FEW
    assert len(run.first_tokens) == 6


def test_only_what_was_named_is_run(stage: Stage) -> None:
    found = stage.play(stage.arm("quire"), only="restart")
    assert stage.entries == ["quire restart 1", "quire restart 1"]
    assert found.restarts == {"quire": [0.5, 0.5]}
    assert found.runs == []


def test_an_arm_that_dies_is_reported_with_its_last_words_and_the_others_go_on(stage: Stage) -> None:
    dying, living = stage.arm("vllm", dies_at=1), stage.arm("quire")
    pid = dying.child.pid if dying.child else 0
    found = stage.play(dying, living)
    assert dying.child is None
    assert "out of luck" in dying.ended
    assert dying.tail == ["out of luck"]
    assert not Path(f"/proc/{pid}").exists()
    assert len(found.of("vllm", 1)) == 1
    assert found.of("vllm", 6) == []
    assert len(found.of("quire", 1)) == len(found.of("quire", 6)) == 2


def test_an_arm_that_is_killed_while_it_waits_is_reported_when_its_turn_comes(stage: Stage) -> None:
    killed, living = stage.arm("vllm"), stage.arm("quire")
    assert killed.child
    killed.child.kill()
    found = stage.play(killed, living)
    assert killed.ended
    assert len(found.runs) == 4


def test_an_answer_with_too_few_tokens_ends_its_arm(stage: Stage) -> None:
    arm = stage.arm("quire", tokens=TOKENS - 1)
    assert stage.play(arm).runs == []
    assert f"of {TOKENS} tokens" in arm.ended


@pytest.mark.parametrize(("cached", "runs"), [(256, 4), (255, 0)])
def test_an_arm_that_computes_the_document_again_is_out(stage: Stage, cached: int, runs: int) -> None:
    arm = stage.arm("vllm", cached=cached)
    arm.opened = {"block_size": 128}  # two whole blocks of the document
    assert len(stage.play(arm).runs) == runs
    assert ("prefix cache" in arm.ended) is (runs == 0)
