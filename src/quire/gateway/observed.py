"""Figures that are read where they are, whenever somebody asks for them."""

from __future__ import annotations

import math
import platform
from itertools import accumulate
from typing import TYPE_CHECKING, get_args

import torch
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from quire import __version__
from quire.gateway.counting import LastCounts
from quire.gateway.figures import BY_NAME
from quire.registry.figures import Arm, outcomes, times
from quire.scheduler import WIDTHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from quire.gateway.watching import StalenessWatch
    from quire.project import Project
    from quire.scheduler import Steps
    from quire.wiring import Runtime


class Observed(Collector):
    """What engine, pool, registry and recorder of a project say at this moment."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._counts = LastCounts(project.registry.counts)
        self._runtime: Runtime | None = None
        self._sources: StalenessWatch | None = None

    def watch(self, runtime: Runtime, sources: StalenessWatch | None) -> None:
        """From now on there is an engine to be read. `sources`: the watch of the sources, if there is one."""
        self._runtime, self._sources = runtime, sources

    def collect(self) -> Iterator[Metric]:
        if self._runtime:
            yield from _of_engine(self._runtime)
        followed = self._project.follower.state()
        if followed.generation >= 0:  # it has looked at least once
            yield _family("quire_registry_applied_generation", followed.generation)
            yield _family("quire_registry_seen_seconds", followed.behind_seconds)
        yield from self._of_registry(followed.error is None)
        if self._sources:
            yield _family("quire_modules_built_elsewhere", self._sources.foreign)
        records = self._project.recorder.state()
        yield _family("quire_audit_waiting", records.waiting)
        yield _family("quire_audit_written_total", records.written)
        yield _family("quire_audit_lost_total", records.lost)

    def _of_registry(self, is_followed: bool) -> Iterator[Metric]:
        counted = self._counts.newest()
        yield _family("quire_registry_up", counted.is_up and is_followed)
        if (counts := counted.counts) is None or counted.age is None:
            return
        yield _family("quire_registry_counted_seconds", counted.age)
        yield _family("quire_registry_generation", counts.generation)
        yield _families("quire_module_versions", counts.versions)
        yield _family("quire_modules_pinned", counts.pinned)
        yield _families("quire_modules_stale", counts.stale)
        yield _family("quire_modules_expired", counts.expired)
        yield _families("quire_changes_total", counts.changes)
        yield _families("quire_golden_runs_total", {"green": counts.golden_green, "failed": counts.golden_failed})


def _of_engine(runtime: Runtime) -> Iterator[Metric]:
    model, pool, load = runtime.model, runtime.pool.state(), runtime.scheduler.load()
    info = [__version__, platform.python_version(), str(torch.__version__), model.facts.name]
    info += [str(model.device), model.geometry.dtype]
    yield _families("quire_build_info", {tuple(info): 1})
    misfits = runtime.answerer.fitting.misfits()
    others = {"continued": len(misfits.continued), "refused": len(misfits.refused)}
    yield _families("quire_modules_for_another_model", others)
    yield _family("quire_answers_running", load.running)
    yield _family("quire_answers_waiting", load.waiting)
    yield _of_steps(load.steps)
    yield _family("quire_step_tokens_total", load.steps.tokens)
    yield _family("quire_step_seconds_total", load.steps.seconds)
    yield _family("quire_preemptions_total", load.preemptions)
    yield _family("quire_room_tokens", load.room_total)
    yield _family("quire_room_used_tokens", load.room_used)
    yield from _of_canaries(runtime.comparing.totals())
    sessions, session_bytes = runtime.answerer.sessions.held()
    yield _family("quire_sessions", sessions)
    yield _family("quire_session_bytes", session_bytes)
    yield _family("quire_pool_modules", pool.modules)
    yield _family("quire_pool_bytes", pool.bytes)
    yield _family("quire_pool_leases", pool.leases)
    yield _family("quire_pool_evictions_total", pool.evicted)
    yield _families(
        "quire_damaged_copies_total", {"replaced": pool.replaced, "refused": pool.damaged, "changed": pool.lost}
    )
    yield _family("quire_device_bytes", pool.device.bytes)
    yield _family("quire_device_restores_total", pool.device.restored)


def _family(name: str, value: float) -> Metric:
    labels: tuple[str, ...] = ()
    return _families(name, {labels: value})


def _families(name: str, values: Mapping[str, float] | Mapping[tuple[str, ...], float]) -> Metric:
    """`values` by label, or by all labels."""
    figure = BY_NAME[name]
    kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    family = kind(name, figure.help, labels=figure.labels)
    for labels, value in sorted(values.items()):
        family.add_metric([labels] if isinstance(labels, str) else labels, value)
    return family


def _of_steps(steps: Steps) -> Metric:
    figure = BY_NAME["quire_batch_requests"]
    bounds = [*map(float, WIDTHS), "+Inf"]
    buckets = [(str(bound), float(count)) for bound, count in zip(bounds, accumulate(steps.widths), strict=True)]
    return HistogramMetricFamily(figure.name, figure.help, buckets=buckets, sum_value=steps.requests)


def _of_canaries(totals: Mapping[str, int]) -> Iterator[Metric]:
    """Both versions of all modules that have a canary, added up: no module is named."""
    arms = get_args(Arm)
    became: dict[tuple[str, ...], float] = {(arm, name): n for arm in arms for name, n in outcomes(totals, arm).items()}
    yield _families("quire_canary_requests_total", became)
    yield _families("quire_canary_fallbacks_total", {"candidate": totals.get("candidate.fallbacks", 0)})
    yield _families("quire_canary_tokens_total", {arm: totals.get(f"{arm}.tokens", 0) for arm in arms})
    yield _of_times("quire_canary_first_token_seconds", {arm: times(totals, arm, "first_token") for arm in arms})
    yield _of_times("quire_canary_answer_seconds", {arm: times(totals, arm, "whole") for arm in arms})
    same = {"identical": totals.get("identical", 0)}
    yield _families("quire_canary_compared_total", {**same, "different": totals.get("pairs", 0) - same["identical"]})


def _of_times(name: str, by_arm: Mapping[str, list[tuple[float, int]]]) -> Metric:
    figure = BY_NAME[name]
    family = HistogramMetricFamily(name, figure.help, labels=figure.labels)
    for arm, counts in by_arm.items():
        buckets = [
            (bound, sum(n for seconds, n in counts if seconds <= bound)) for bound in (*figure.buckets, math.inf)
        ]
        named = [("+Inf" if bound == math.inf else str(bound), float(n)) for bound, n in buckets]
        family.add_metric([arm], named, sum(seconds * n for seconds, n in counts))
    return family
