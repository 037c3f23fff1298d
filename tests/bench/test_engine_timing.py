"""Figures follow from the times of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.bench.engine.timing import Served, agreeing, in_turn, percentile

TWO = Served([[0.5, 0.6, 0.8], [1.0, 1.2, 2.0]])


def test_all_tokens_count_until_the_last_one_came() -> None:
    assert TWO.metrics()["tokens_per_second"] == pytest.approx(6 / 2.0)


def test_decoding_alone_begins_when_every_request_has_its_first_token() -> None:
    assert TWO.metrics()["decode_tokens_per_second"] == pytest.approx(2 / 1.0)


def test_first_tokens_and_gaps_are_those_of_all_requests() -> None:
    metrics = TWO.metrics()
    assert metrics["first_token_ms_p50"] == pytest.approx(750)
    assert metrics["first_token_ms_p95"] == pytest.approx(1000)
    assert metrics["inter_token_ms_p50"] == pytest.approx(200)  # of 100, 200, 200, 800
    assert metrics["inter_token_ms_p95"] == pytest.approx(800)


def test_one_token_alone_has_no_gap() -> None:
    metrics = Served([[0.25]]).metrics()
    assert metrics["inter_token_ms_p50"] == 0
    assert metrics["decode_tokens_per_second"] == 0


def test_requests_in_turn_wait_for_those_before_them() -> None:
    served = in_turn([[1.0, 2.0], [5.0, 6.0]], 4)  # runs of 2 and 4 seconds
    assert served.times == [[1, 2], [5, 6], [7, 8], [11, 12]]


@given(st.lists(st.lists(st.floats(0.01, 9), min_size=1, max_size=4), min_size=1, max_size=4), st.integers(1, 9))
def test_measured_requests_keep_their_times_in_turn(gaps: list[list[float]], count: int) -> None:
    now, times = 0.0, []
    for request in gaps:
        times.append([now := now + gap for gap in request])
    served = in_turn(times, count)
    assert len(served.times) == count
    for found, measured in zip(served.times, times, strict=False):
        assert found == pytest.approx(measured)
    joined = [t for request in served.times for t in request]
    assert joined == sorted(joined)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_percentile_lies_within_its_values(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert min(values) <= found <= max(values)
    assert sum(v <= found for v in values) >= share * len(values)


def test_agreement_ends_at_the_first_difference() -> None:
    assert agreeing([1, 2, 3], [1, 2, 4]) == 2
    assert agreeing([1, 2], [1, 2, 3]) == 2
    assert agreeing([5], [6]) == 0
