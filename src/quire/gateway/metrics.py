"""Figures for Prometheus, in a registry of their own so that two applications in one process do not mix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from quire.gateway.figures import BY_NAME
from quire.gateway.observed import Observed

if TYPE_CHECKING:
    from quire.core import Usage
    from quire.project import Project

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """All figures of one application, those of `quire.gateway.figures`. Thread-safe."""

    def __init__(self, project: Project) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("quire_http_requests_total")
        self.request_seconds = self._histogram("quire_http_request_seconds")
        self.errors = self._counter("quire_errors_total")
        self.limit_refusals = self._counter("quire_limit_refusals_total")
        self.routes = self._counter("quire_routes_total")
        self.tokens = self._counter("quire_tokens_total")
        self.first_token = self._histogram("quire_first_token_seconds")
        self.inter_token = self._histogram("quire_inter_token_seconds")
        self.answer = self._histogram("quire_answer_seconds")
        self.restore = self._histogram("quire_restore_seconds")
        self.restored_bytes = self._counter("quire_restored_bytes_total")
        self.queue = self._histogram("quire_queue_seconds")
        self.prefill = self._histogram("quire_prefill_seconds")
        self.observed = Observed(project)
        self.registry.register(self.observed)

    def count_tokens(self, usage: Usage) -> None:
        self.tokens.labels("prompt").inc(usage.prompt)
        self.tokens.labels("cached").inc(usage.cached)
        self.tokens.labels("completion").inc(usage.completion)

    def exposition(self) -> bytes:
        """The figures in Prometheus' text format. Reads the registry: call it from a thread."""
        return generate_latest(self.registry)

    def _counter(self, name: str) -> Counter:
        figure = BY_NAME[name]
        return Counter(name, figure.help, figure.labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        figure = BY_NAME[name]
        return Histogram(name, figure.help, figure.labels, buckets=figure.buckets, registry=self.registry)
