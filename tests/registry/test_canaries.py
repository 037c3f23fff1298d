"""What is kept of a canary: figures that add up, one at a time, and what everybody may know at its end."""

from __future__ import annotations

import math
from collections import Counter
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.errors import CanaryRunning, NoCanary, NoLiveVersion
from quire.registry import Registry, VersionRecord, figures

from .making import BY, record

SECONDS = st.floats(1e-4, 100)
TIMES: tuple[tuple[figures.Time, int], ...] = (("first_token", 1), ("whole", 2))


@given(st.lists(SECONDS, min_size=1))
def test_a_quantile_is_right_to_within_six_percent(seconds: list[float]) -> None:
    seen = sum((figures.answered("live", each, each * 2) for each in seconds), Counter[str]())
    seconds.sort()
    low, high = seconds[(len(seconds) - 1) // 2], seconds[len(seconds) // 2]
    for time, factor in TIMES:
        found = figures.quantile(seen, "live", time, 0.5)
        assert found is not None
        assert low * factor * 0.94 <= found <= high * factor * 1.06
        most = figures.quantile(seen, "live", time, 0.95)
        assert most is not None
        assert seconds[math.ceil(0.95 * len(seconds)) - 1] * factor * 0.94 <= most <= seconds[-1] * factor * 1.06
    assert figures.quantile(seen, "candidate", "whole", 0.5) is None
    assert low <= median(seconds) <= high


def test_figures_of_many_servers_add_up() -> None:
    one = (
        figures.answered("live", 0.1, 1.0, 7)
        + figures.fell_back("candidate")
        + figures.refused("live")
        + figures.compared(identical=True, overlap=1)
    )
    other = (
        figures.answered("live", None, 2.0, 3, cut=True)
        + figures.left("live")
        + figures.compared(identical=False, overlap=0.5)
        + Counter(dropped=3)
    )
    report = figures.report(one + other)
    live = report["arms"]["live"]
    assert [live[name] for name in ("requests", "answers", "errors", "refusals", "left")] == [4, 2, 0, 1, 1]
    assert [live[name] for name in ("tokens", "tokens_per_answer", "cut")] == [10, 5.0, 1]
    counted = {"requests": 1, "errors": 1, "fallbacks": 1}
    zeros = dict.fromkeys(("answers", "refusals", "left", "cut", "tokens"), 0)
    nothing = dict.fromkeys(f"{name}_seconds" for name in ("first_token", "first_token_p95", "answer", "answer_p95"))
    assert report["arms"]["candidate"] == counted | zeros | nothing | {"tokens_per_answer": None}
    assert (report["compared"], report["identical"], report["overlap"], report["dropped"]) == (2, 1, 0.75, 3)


def two_versions(registry: Registry) -> tuple[VersionRecord, VersionRecord]:
    live, candidate = record("billing", 1), record("billing", 2)
    for one in (live, candidate):
        registry.register(one, **BY)
    registry.publish("billing", live.version, **BY)
    return live, candidate


def test_a_canary_is_kept_with_what_was_seen_until_it_ends(registry: Registry) -> None:
    live, candidate = two_versions(registry)
    begun = registry.canaries.start(candidate, percent=10, shadow=True, **BY)
    assert registry.canaries.running() == [registry.canaries.current("billing")] == [begun]
    with pytest.raises(CanaryRunning, match=candidate.version):
        registry.canaries.start(candidate, percent=20, shadow=False, **BY)
    seen = {begun.number: figures.answered("live", 0.1, 0.2)}
    registry.canaries.add(seen)
    registry.canaries.add(seen)
    ended = registry.canaries.stop("billing", **BY)
    registry.canaries.add(seen)  # from a server that had not heard of it
    assert registry.canaries.newest("billing") == [ended]
    assert ended.figures["live.requests"] == 2
    assert (ended.against, ended.ended, ended.percent, ended.shadow) == (live.version, BY["reason"], 10, True)
    with pytest.raises(NoCanary):
        registry.canaries.stop("billing", **BY)
    last = list(registry.audit.each())[-1]
    assert (last.kind, last.what, last.details["live.requests"]) == ("canary.end", str(candidate.ref), 2)
    registry.canaries.start(candidate, percent=1, shadow=False, **BY)
    registry.revoke("billing", live.version, **BY)
    assert registry.canaries.running() == []
    assert "is revoked" in str(registry.canaries.newest("billing", 1)[0].ended)


def test_there_must_be_something_to_compare_with(registry: Registry) -> None:
    candidate = record("billing")
    registry.register(candidate, **BY)
    with pytest.raises(NoLiveVersion):
        registry.canaries.start(candidate, percent=10, shadow=False, **BY)
