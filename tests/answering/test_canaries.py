"""Two versions side by side: who gets which, what is compared, how it ends, and that nobody sees what is not theirs."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from quire import Project, open_project
from quire.access import LOCAL, Principal
from quire.answering import Answer, Question
from quire.core import Sampling, Turn, WhenStale
from quire.errors import (
    CanaryRunning,
    ContextExceeded,
    GoldenFailed,
    IllegalTransition,
    InvalidSetting,
    NoCanary,
    VersionInUse,
)
from quire.registry import Canary, Mark, Reason, VersionRecord

BY: dict[str, Any] = {"actor": "test", "reason": "to see"}
SHORT = Sampling(max_tokens=3)
READER = Principal("acme", "ann", roles=frozenset({"reader"}))


def compile_candidate(
    project: Project, text: str = "A bolt costs 4 pounds. A nut costs 2 pounds. " * 4
) -> VersionRecord:
    """Another version of `prices`, not live."""
    (project.settings.root / "knowledge" / "prices.md").write_text(text)
    report = project.build(publish=False)
    assert (len(report.compiled), report.published) == (1, [])
    return project.registry.get("prices", report.compiled[0].version)


@pytest.fixture
def project(shop: Path) -> Iterator[Project]:
    with open_project(shop) as opened:
        yield opened


def asked(project: Project, text: str, *, session: str | None = None, by: Principal = LOCAL) -> Answer:
    question = Question((Turn("user", text),), module="prices", session=session, sampling=SHORT)
    return project.runtime.answerer.ask(question, by)


def provenance(answer: Answer) -> dict[str, Any]:
    answer.text()
    return answer.prepared.provenance()


def eventually(found: Callable[[], Any], wanted: Any) -> bool:
    deadline = time.monotonic() + 20
    while found() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(found() == wanted)


def figure(project: Project, name: str) -> int:
    return project.registry.canaries.newest("prices", 1)[0].figures[name]


def test_a_share_of_the_sessions_goes_to_the_candidate_and_stays_there(project: Project) -> None:
    candidate, live = compile_candidate(project), project.registry.live("prices")
    project.start_canary(candidate, percent=50, **BY)
    sessions = [f"session {number}" for number in range(60)]
    first = [provenance(asked(project, "What?", session=session)) for session in sessions]
    again = [provenance(asked(project, "And now?", session=session)) for session in sessions]
    arms = [one["arm"] for one in first]
    assert arms == [one["arm"] for one in again]
    assert 15 <= arms.count("candidate") <= 45
    for one in (*first, *again):
        assert one["version"] == (candidate if one["arm"] == "candidate" else live).version
    told = next(one["reason"] for one in first if one["arm"] == "candidate")
    assert f"a canary gives 50 % of the requests to {candidate.ref}" in told
    counted = {arm: 2 * arms.count(arm) for arm in ("live", "candidate")}
    for arm, count in counted.items():
        assert eventually(partial(figure, project, f"{arm}.requests"), count)
    report = project.registry.canaries.current("prices").as_json()
    for arm in ("live", "candidate"):
        assert report["arms"][arm]["errors"] == 0
        assert 0 < report["arms"][arm]["first_token_seconds"] <= report["arms"][arm]["answer_seconds"] * 1.2
    assert provenance(asked(project, "What?", by=READER))["arm"] == provenance(asked(project, "Why?", by=READER))["arm"]
    named = Question((Turn("user", "What?"),), module=f"prices@{live.version}", sampling=SHORT)
    assert project.runtime.answerer.ask(named, LOCAL).prepared.provenance()["arm"] is None
    assert provenance(project.ask("What?", module="shipping", max_tokens=2))["arm"] is None


def test_what_became_of_each_request_is_told_by_arm(project: Project) -> None:
    project.start_canary(compile_candidate(project), percent=100, **BY)
    for number in range(3):
        asked(project, f"What is {number}?").text()
    with pytest.raises(ContextExceeded):
        asked(project, "What? " * 3000)
    long = Question((Turn("user", "Go on"),), module="prices", sampling=Sampling(max_tokens=1500, ignore_eos=True))
    leaving = project.runtime.answerer.ask(long, LOCAL)
    next(leaving)
    leaving.cancel()
    leaving.text()
    assert eventually(partial(figure, project, "candidate.requests"), 5)
    one = project.registry.canaries.current("prices").as_json()["arms"]["candidate"]
    assert [one[name] for name in ("answers", "errors", "refusals", "left", "fallbacks")] == [3, 0, 1, 1, 0]
    assert (one["tokens"], one["cut"], one["tokens_per_answer"]) == (9, 3, 3.0)
    assert one["answer_p95_seconds"] >= one["answer_seconds"] > 0
    assert project.runtime.comparing.totals()["candidate.requests"] == 5


def test_in_the_shadow_the_candidate_is_asked_and_nobody_gets_its_answer(project: Project) -> None:
    candidate, live = compile_candidate(project), project.registry.live("prices")
    project.start_canary(candidate, shadow=True, **BY)
    chain = project.registry.chain(candidate)
    same = 0
    for number in range(6):
        answer = asked(project, f"What is {number}?")
        text = answer.text()
        assert answer.module.version == live.version
        assert answer.prepared.provenance()["arm"] == "live"
        question = Question((Turn("user", f"What is {number}?"),), sampling=SHORT)
        assert eventually(partial(figure, project, "pairs"), number + 1)
        same += project.runtime.answerer.try_out(question, chain, LOCAL).text() == text
    report = project.registry.canaries.current("prices").as_json()
    assert (report["compared"], report["identical"], report["dropped"]) == (6, same, 0)
    assert report["arms"]["shadow"]["requests"] == report["arms"]["live"]["requests"] == 6
    assert report["arms"]["candidate"]["requests"] == 0
    assert same / 6 <= report["overlap"] <= 1
    assert project.runtime.pool.state().leases == 0


def test_shadows_are_dropped_and_counted_when_they_are_too_many(project: Project) -> None:
    project.start_canary(compile_candidate(project), shadow=True, **BY)
    answers = [asked(project, f"What is {number}?") for number in range(60)]
    for answer in answers:
        answer.text()
    assert eventually(lambda: figure(project, "pairs") + figure(project, "dropped"), 60)
    assert figure(project, "dropped") > 0


@pytest.mark.parametrize(("then", "arm"), [("serve", "candidate"), ("refuse", None), ("fallback", None)])
def test_a_candidate_that_does_not_answer_while_it_is_stale_has_no_part(
    project: Project, then: WhenStale, arm: str | None
) -> None:
    candidate, live = compile_candidate(project), project.registry.live("prices")
    project.start_canary(candidate, percent=100, **BY)
    reason = Reason("source", "a source changed", "prices.md", "b3:1", "b3:0")
    project.registry.mark([Mark("prices", candidate.version, (reason,), then)], actor="test")
    answer = asked(project, "What is it?")
    assert answer.text()
    assert answer.prepared.provenance()["arm"] == arm
    assert answer.module.version == (candidate if arm else live).version


def test_nobody_sees_a_candidate_that_may_not_go_live(project: Project) -> None:
    golden = project.settings.root / "golden" / "prices.yaml"
    golden.parent.mkdir()
    golden.write_text(json.dumps([{"question": "What?", "not_contains": "\N{SNOWMAN}"}]))
    project.build()
    golden.write_text(json.dumps([{"question": "What?", "contains": "\N{SNOWMAN}"}]))
    candidate = compile_candidate(project)
    with pytest.raises(GoldenFailed, match="1 of 1 golden tests failed"):
        project.start_canary(candidate, percent=10, **BY)
    assert project.registry.canaries.running() == []
    with pytest.raises(InvalidSetting):
        project.start_canary(candidate, **BY)
    with pytest.raises(IllegalTransition, match=r"found prices@.* live"):
        project.start_canary(project.registry.live("prices"), percent=10, **BY)


def publish(project: Project, canary: Canary) -> None:
    project.registry.publish("prices", canary.version, **BY)


def revoke(project: Project, canary: Canary) -> None:
    project.revoke(project.registry.get("prices", canary.version), **BY)


def retire(project: Project, canary: Canary) -> None:
    project.registry.retire("prices", canary.against, **BY)


def stop(project: Project, _canary: Canary) -> None:
    project.registry.canaries.stop("prices", **BY)


@pytest.mark.parametrize("end", [publish, revoke, retire, stop])
def test_it_outlives_a_restart_and_ends_with_its_versions(shop: Path, end: Callable[[Project, Canary], None]) -> None:
    with open_project(shop) as project:
        candidate = compile_candidate(project)
        project.start_canary(candidate, percent=100, **BY)
        assert provenance(asked(project, "What?"))["arm"] == "candidate"
    with open_project(shop) as project:
        canary = project.registry.canaries.current("prices")
        assert canary.figures["candidate.requests"] == 1, "what was seen was written at the end"
        assert provenance(asked(project, "What?"))["version"] == candidate.version
        with pytest.raises(CanaryRunning):
            project.start_canary(candidate, shadow=True, **BY)
        with pytest.raises(VersionInUse, match="in a canary"):
            project.registry.forget("prices", candidate.version, **BY)
        assert candidate.version not in {record.version for record in project.registry.gc_candidates(0)}
        end(project, canary)
        with pytest.raises(NoCanary):
            project.registry.canaries.current("prices")
        last = project.registry.canaries.newest("prices", 1)[0]
        assert last.ended
        kinds = [record.kind for record in project.registry.audit.each() if record.kind.startswith("canary.")]
        assert kinds == ["canary.start", "canary.end"]
        if end in (revoke, stop):
            time.sleep(1.1)  # what was known of it is a second old by now
            assert provenance(asked(project, "What?"))["arm"] is None
            assert asked(project, "What?").module.version == canary.against
        assert project.registry.integrity() == []


def test_who_may_not_read_the_candidate_has_no_part_in_it(project: Project, shop: Path) -> None:
    candidate = compile_candidate(project)
    with closing(sqlite3.connect(shop / ".quire" / "registry.db")) as database, database:
        row = "scope_kind = 'tenant', scope_owner = 'globex'"
        database.execute(f"UPDATE module_versions SET {row} WHERE version = ?", [candidate.version])
    project.start_canary(candidate, percent=100, shadow=True, **BY)
    of_globex = Principal("globex", "gil", roles=frozenset({"reader"}))
    assert provenance(asked(project, "What?", by=of_globex))["version"] == candidate.version
    seen = provenance(asked(project, "What?", by=READER))
    assert seen["arm"] is None
    assert seen["version"] == project.registry.live("prices").version
    assert eventually(lambda: figure(project, "candidate.requests"), 1)
    assert figure(project, "live.requests") == figure(project, "shadow.requests") == 0


def test_a_candidate_whose_bytes_do_not_hold_costs_nobody_an_answer(project: Project) -> None:
    candidate = compile_candidate(project)
    project.start_canary(candidate, percent=100, **BY)
    shard = project.store.locate(candidate.digest) / "kv-00000.safetensors"
    shard.chmod(0o644)
    with shard.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\xff")
    answer = asked(project, "What?")
    assert answer.text()
    assert answer.module.version == project.registry.live("prices").version
    assert eventually(lambda: figure(project, "candidate.errors"), 1)
    assert figure(project, "candidate.fallbacks") == 1
