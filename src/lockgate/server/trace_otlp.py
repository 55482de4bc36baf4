"""Sends spans to a collector: OpenTelemetry's SDK, its encoding, and our own HTTP.

The exporter that comes with OpenTelemetry takes a CA as a file only and adds the roots of its HTTP library, obeys
proxies and headers of the environment, and reads .netrc. Spans go out like everything else that leaves a gateway:
to the address in the configuration, after its certificate was verified (`other_server`).

A thread of the SDK's takes spans from a queue with a bound and sends them; who ends a span never waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

import structlog
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Tracer

from lockgate import __version__
from lockgate.server.other_server import NoAnswerError, Patience, Server, exchange
from lockgate.server.trace_export import Tally, parse_url

QUEUED = 4096  # spans that wait or are being sent; some two kilobytes each
BATCH = 512  # spans of one request, the SDK's default
PAUSE = 2000  # milliseconds that spans wait for others
PATIENCE = Patience(each=5.0, whole=10.0, most=1 << 16)
LIMITS = SpanLimits(max_span_attributes=32, max_span_attribute_length=200, max_events=0, max_links=0)

log = structlog.get_logger("traces")

# It would write lines of its own to standard error. What goes wrong we count and say ourselves.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
logging.getLogger("opentelemetry").propagate = False


class Exporting:
    """One collector, until `close`."""

    def __init__(
        self, *, url: str, headers: Mapping[str, str], ca: str, share: float, instance: str, tally: Tally
    ) -> None:
        """headers: of every request. ca: PEM, empty is the system's store. share: of traces that begin here,
        above 0 to 1. instance: what this gateway is called. Raises ValueError for an address that is none."""
        resource = Resource(
            {
                "service.name": "lockgate",
                "service.version": __version__,
                "service.instance.id": instance,
                "telemetry.sdk.language": "python",
                "telemetry.sdk.name": "opentelemetry",
            }
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=resource,
            span_limits=LIMITS,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(_Queue(_Sender(url, headers, ca, tally), tally))
        # Of our own provider: who asks OpenTelemetry for the global one gets none.
        self.tracer: Tracer = self._provider.get_tracer("lockgate", __version__)

    def close(self) -> None:
        """Sends what waits; blocks as long as that takes."""
        self._provider.shutdown()


class _Queue(BatchSpanProcessor):
    """Knows how many spans are on their way, and takes no more than it has room for."""

    def __init__(self, sender: _Sender, tally: Tally) -> None:
        self._tally = tally
        self._lock, self._under_way = threading.Lock(), 0
        sender.on_done = self._done
        super().__init__(sender, QUEUED, PAUSE, BATCH)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            room = self._under_way < QUEUED
            self._under_way += room
        if room:
            super().on_end(span)
        else:
            self._tally.count(queue_full=1)

    def _done(self, count: int) -> None:
        with self._lock:
            self._under_way -= count


class _Sender(SpanExporter):
    """One request a batch, in the queue's thread. A batch that is not taken is lost: the next one is worth more."""

    def __init__(self, url: str, headers: Mapping[str, str], ca: str, tally: Tally) -> None:
        tls, host, port, self._path = parse_url(url)
        self._server = Server(host, port, tls=tls, ca=ca)
        self._headers = {**headers, "Content-Type": "application/x-protobuf"}
        self._tally = tally
        self._lost = 0  # in the present outage
        self.on_done = lambda count: None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            return self._export(spans)
        except Exception:
            self._tally.count(not_sent=len(spans))
            log.exception("internal-error", spans=len(spans))
            return SpanExportResult.FAILURE
        finally:
            self.on_done(len(spans))

    def _export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = encode_spans(spans).SerializeToString()
        try:
            status, content = exchange(self._server, "POST", self._path, self._headers, PATIENCE, body)
            why = "" if status == 200 else f"it answers {status}"
        except NoAnswerError as error:
            content, why = b"", error.why
        if why:
            self._tally.count(not_sent=len(spans), reached=False)
            if not self._lost:
                log.warning("traces-not-sent", collector=str(self._server), reason=why)
            self._lost += len(spans)
            return SpanExportResult.FAILURE
        rejected = min(_rejected(content), len(spans))
        self._tally.count(exported=len(spans) - rejected, rejected=rejected, reached=True)
        if self._lost:
            log.info("traces-sent-again", collector=str(self._server), lost=self._lost)
            self._lost = 0
        return SpanExportResult.SUCCESS


def _rejected(content: bytes) -> int:
    """How many spans the collector did not want; its text about them is nobody's business here."""
    try:
        answer = ExportTraceServiceResponse.FromString(content)
    except DecodeError:
        return 0  # a collector that says yes without the answer of the protocol
    return max(0, answer.partial_success.rejected_spans)
