"""A collector of traces on a host of the lab: OTLP/HTTP over TLS, which keeps every request as it came.

`python -m tests.lab.collector DIRECTORY CERTIFICATE KEY PORT` answers `POST /v1/traces` and writes headers and body
into DIRECTORY, one file a request. `Collector` starts it and reads what was written.
"""

from __future__ import annotations

import http.server
import itertools
import json
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.lab.authority import Authority
from tests.lab.host import Host
from tests.lab.program import Program

PORT = 4318
PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Received:
    """A span. parent: the span around it, "" for the first one. failed: its status says so."""

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    begin: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    service: dict[str, Any]


class Collector:
    """One on `host`, under a name of the lab. `stop` and `start` as often as a test wants."""

    def __init__(self, host: Host, name: str) -> None:
        self._host, self.url = host, f"https://{name}:{PORT}{PATH}"
        self._directory = host.directory / "collector"
        self._directory.mkdir()
        authority = Authority(self._directory / "authority")
        self._issued = authority.issue(name)
        self.ca = authority.ca_file.read_text()
        self._program: Program | None = None

    def start(self) -> Collector:
        line = self._host.python(
            "tests.lab.collector",
            str(self._directory),
            str(self._issued.certificate),
            str(self._issued.key),
            str(PORT),
        )
        self._program = self._host.start(line, "collector")
        self._program.wait_log("^listening", deadline=30)
        return self

    def stop(self) -> None:
        assert self._program is not None
        self._program.stop()

    def requests(self) -> list[tuple[dict[str, str], bytes]]:
        """Headers and body of each."""
        found = []
        for path in sorted(self._directory.glob("*.request")):
            head, _, body = path.read_bytes().partition(b"\n")
            found.append((json.loads(head), body))
        return found

    def spans(self) -> list[Received]:
        """All that has come, by their beginnings."""
        found = [span for _, body in self.requests() for span in spans_of(body)]
        return sorted(found, key=lambda each: each.begin)

    def trace(self, span: Received) -> list[Received]:
        """The spans of the same trace."""
        return [each for each in self.spans() if each.trace == span.trace]


def spans_of(body: bytes) -> Iterator[Received]:
    """Those of one request."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    name=span.name,
                    kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    begin=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    attributes=_values(span.attributes),
                    service=service,
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes}


def main(directory: Path, certificate: str, key: str, port: int) -> None:
    # Another start goes on where the last one stopped.
    numbers = itertools.count(len(list(directory.glob("*.request"))))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != PATH:
                self.send_error(404)
                return
            head = json.dumps({name.lower(): value for name, value in self.headers.items()})
            new = directory / f"{next(numbers):06}.new"
            new.write_bytes(head.encode() + b"\n" + body)
            new.rename(new.with_suffix(".request"))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
