"""A collector of traces: an HTTP server that takes OTLP, as https://opentelemetry.io/docs/specs/otlp/ has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class Span:
    """One span, decoded. Times in seconds since 1970."""

    name: str
    trace: str
    span: str
    parent: str
    kind: int
    began: float
    ended: float
    attributes: dict[str, Any]
    failed: bool
    service: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class Collector:
    url: str = ""
    raw: bytes = b""
    spans: list[Span] = field(default_factory=list)

    def of(self, trace: str, count: int, seconds: float = 20.0) -> list[Span]:
        """The spans of a trace, by time, when there are at least `count`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.began)
            if len(found) >= count:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{len(found)} spans of {count}: {[span.name for span in found]}")


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"] == "application/x-protobuf"
            collector.raw += body
            collector.spans += _decoded(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's output is not for it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _decoded(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        named = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for one in scope.spans:
                yield Span(
                    name=one.name,
                    trace=one.trace_id.hex(),
                    span=one.span_id.hex(),
                    parent=one.parent_span_id.hex(),
                    kind=one.kind,
                    began=one.start_time_unix_nano / 1e9,
                    ended=one.end_time_unix_nano / 1e9,
                    attributes=_values(one.attributes),
                    failed=one.status.code == 2,
                    service=named["service.name"],
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)
