"""Figures for Prometheus, in a registry of their own so that two applications in one process do not mix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from quire.core import Usage
    from quire.pool import Pool
    from quire.scheduler import Scheduler

CONTENT_TYPE = CONTENT_TYPE_LATEST
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RESTORE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """All figures of one application, described one by one in docs/http.md. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "quire_http_requests", "answered HTTP requests", ["route", "status"], registry=self.registry
        )
        self.errors = Counter("quire_errors", "errors told to callers, by code", ["code"], registry=self.registry)
        self.tokens = Counter(
            "quire_tokens",
            "tokens: prompt (all of it), cached (of the prompt), completion",
            ["kind"],
            registry=self.registry,
        )
        self.first_token = Histogram(
            "quire_first_token_seconds",
            "from a request's arrival to its first token",
            buckets=FIRST_TOKEN_SECONDS,
            registry=self.registry,
        )
        self.inter_token = Histogram(
            "quire_inter_token_seconds",
            "between two tokens of an answer",
            buckets=TOKEN_SECONDS,
            registry=self.registry,
        )
        self.restore = Histogram(
            "quire_restore_seconds",
            "making a chain usable",
            ["tier"],
            buckets=RESTORE_SECONDS,
            registry=self.registry,
        )
        self._watched = False

    def watch(self, pool: Pool, scheduler: Scheduler) -> None:
        """Read pool and scheduler whenever the figures are asked for. May be called twice."""
        if not self._watched:
            self.registry.register(_Now(pool, scheduler))
            self._watched = True

    def count_tokens(self, usage: Usage) -> None:
        self.tokens.labels("prompt").inc(usage.prompt)
        self.tokens.labels("cached").inc(usage.cached)
        self.tokens.labels("completion").inc(usage.completion)

    def exposition(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _Now(Collector):
    """What pool and scheduler hold at this moment."""

    def __init__(self, pool: Pool, scheduler: Scheduler) -> None:
        self._pool = pool
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        pool, load = self._pool.state(), self._scheduler.load()
        yield GaugeMetricFamily("quire_answers_running", "answers being computed", load.running)
        yield GaugeMetricFamily("quire_answers_waiting", "answers waiting for room", load.waiting)
        yield GaugeMetricFamily("quire_pool_modules", "open modules", pool.modules)
        yield GaugeMetricFamily("quire_pool_bytes", "bytes of open modules", pool.bytes)
        yield GaugeMetricFamily("quire_pool_leases", "modules leased to answers, each lease counted", pool.leases)
        yield CounterMetricFamily("quire_pool_evictions", "modules closed to make room", pool.evicted)
