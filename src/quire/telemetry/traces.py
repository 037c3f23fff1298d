"""Traces for OpenTelemetry, sent by OTLP over HTTP. Nothing here is imported unless `tracing.endpoint` is set.

A request's span begins when it arrives, so that whoever is called meanwhile is within it. Its phases become spans when
it has ended: most of them were on the engine's thread, in steps that many requests shared, and that thread is not to
wait for anybody's bookkeeping. So they are written down as times, and a phase has the steps it took part in as
attributes.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from quire.telemetry.phases import Phase

EXPORT_SECONDS = 5.0  # for the collector to take what it is sent
CLOSE_SECONDS = 2.0  # for it to take what is left at the end
BATCH_SECONDS = 0.2  # that a span waits for others to be sent with


class Traces:
    """Sends spans to one collector, from a thread of its own. What it cannot send is dropped, and logged."""

    def __init__(self, endpoint: str, *, share: float, service: str, version: str) -> None:
        """`share`: of the requests whose caller has not decided whether they are traced."""
        named = Resource.create({"service.name": service, "service.version": version})
        self._provider = TracerProvider(resource=named, sampler=ParentBased(TraceIdRatioBased(share)))
        self._exporter = OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(self._exporter, schedule_delay_millis=1000 * BATCH_SECONDS)
        )
        self._tracer = self._provider.get_tracer("quire", version)
        self._parents = TraceContextTextMapPropagator()

    def arrive(self, headers: Mapping[str, str], name: str, began: float) -> Arrival:
        """A request has come, within the trace that its headers name or a new one."""
        epoch = time.time_ns() - int(time.perf_counter() * 1e9)
        span = self._tracer.start_span(
            name, self._parents.extract(headers), SpanKind.SERVER, start_time=epoch + int(began * 1e9)
        )
        return Arrival(self._tracer, span, epoch)

    def close(self) -> None:
        """Send what is left. A collector that does not answer holds up the end by no more than `CLOSE_SECONDS`."""
        patience = threading.Timer(CLOSE_SECONDS, self._exporter.shutdown)  # ends its attempts
        patience.start()
        self._provider.shutdown()
        patience.cancel()


class Arrival:
    """The span of a request on its way."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span, epoch: int) -> None:
        """`epoch`: nanoseconds since 1970 at zero of `time.perf_counter`."""
        self._tracer = tracer
        self._span = span
        self._epoch = epoch

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    @contextmanager
    def current(self) -> Iterator[None]:
        """What is traced within, also in `asyncio.to_thread`, is part of this request."""
        token = context.attach(trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            context.detach(token)

    @property
    def wanted(self) -> bool:
        """Whether anybody will see it: then its phases are worth putting together."""
        return self._span.is_recording()

    def end(self, whole: Phase) -> None:
        """The request has ended; `whole` has what is to be told of it."""
        self._span.update_name(whole.name)
        self._finish(self._span, whole)

    def _finish(self, span: trace.Span, phase: Phase) -> None:
        span.set_attributes(phase.attributes)
        if phase.error:
            span.set_attribute("error.type", phase.error)
            span.set_status(Status(StatusCode.ERROR))
        within = trace.set_span_in_context(span)
        for inner in phase.inner:
            self._finish(self._tracer.start_span(inner.name, within, start_time=self._at(inner.began)), inner)
        span.end(self._at(phase.ended))

    def _at(self, moment: float) -> int:
        return self._epoch + int(moment * 1e9)
