"""Traces: what is recorded, whose trace goes on in ours, and what it costs when a collector is away."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import subprocess
import sys
import threading

import pytest
import structlog

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server import trace_otlp, tracing
from lockgate.server.other_server import Destination, Patience, ask
from lockgate.server.trace_export import Tally, parse_headers, parse_url
from lockgate.server.trace_otlp import Exporting
from tests.lab.collector import spans_of
from tests.unit.server.scripted_edge import eventually
from tests.unit.server.support import run
from tests.unit.server.test_enforcement import NO_RULES
from tests.unit.server.test_follow import two_tunnels
from tests.unit.server.test_record_peers import Other
from tests.unit.server.test_web_user_records import CHANGES, ORIGIN, given, synchronise
from tests.unit.server.web_subject import Caller, configuration, web

STRANGE = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Collector:
    """On loopback, without TLS. `open` lets it answer."""

    def __init__(self):
        self.bodies, self.status, self.open = [], 200, threading.Event()
        self.open.set()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.open.wait(20)
                if collector.status == 200:
                    collector.bodies.append(body)
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    @property
    def spans(self):
        return sorted((span for body in self.bodies for span in spans_of(body)), key=lambda each: each.begin)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever).start()
        return self

    def __exit__(self, *_):
        self.open.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def exporting(collector, *, share=1.0, tally=None, **settings):
    """Spans of this process go to the collector; all of them are sent at the end."""
    made = Exporting(
        url=collector.url, headers={}, ca="", share=share, instance="test", tally=tally or Tally()
    )
    tracing.use(made.tracer, **settings)
    try:
        yield made
    finally:
        tracing.use(None)
        made.close()


@contextlib.asynccontextmanager
async def traced_web(folder, collector):
    """The HTTP application, every request of which is traced; spans have arrived after `close`."""
    traces = {"enabled": True, "url": collector.url, "share": 100}
    async with web(folder, configuration(traces=traces)) as subject:
        try:
            yield subject
        finally:
            await subject.parts.traces.close(10)


def test_without_traces_nothing_of_the_sdk_is_imported():
    code = (
        "import sys, lockgate.server.control, lockgate.server.web.app, lockgate.server.metrics;"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.proto',"
        " 'opentelemetry.exporter', 'google'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    with tracing.operation("anything") as trace, tracing.part("inside") as part:
        assert trace is part is tracing.NOTHING


def test_parts_belong_to_what_is_around_them():
    async def work():
        with tracing.operation("outer") as outer:
            outer.note(tracing.who("alice", "192.0.2.1"))
            with tracing.part("first"):
                await asyncio.to_thread(lambda: tracing.part("in a thread").end())
            later = asyncio.create_task(after())
            with pytest.raises(ProblemError), tracing.operation("second"):
                raise ProblemError(Problem("no-such-thing", "alice has none.", "Make one."))
        over.set()
        await later

    over = asyncio.Event()

    async def after():
        await over.wait()
        # A task that outlives what it was begun in is no part of it.
        assert tracing.part("too late") is tracing.NOTHING
        assert not tracing.current().is_recorded

    with Collector() as collector:
        with exporting(collector):
            run(work())
        spans = {span.name: span for span in collector.spans}
        ids = {span.id: span.name for span in spans.values()}
        assert {name: ids.get(span.parent, "") for name, span in spans.items()} == {
            "outer": "",
            "first": "outer",
            "in a thread": "first",
            "second": "outer",
        }
        assert spans["second"].failed
        assert spans["second"].attributes == {"error.type": "no-such-thing"}
        assert spans["outer"].attributes == {}
        assert b"alice" not in b"".join(collector.bodies)
        with exporting(collector, names_people=True), tracing.operation("named") as trace:
            trace.note(tracing.who("alice", "192.0.2.1"))
        assert collector.spans[-1].attributes == {"user.name": "alice", "client.address": "192.0.2.1"}


def test_of_a_trace_that_is_not_drawn_nothing_is_recorded():
    with Collector() as collector:
        with exporting(collector, share=1e-12):
            for _ in range(50):
                with tracing.operation("outer") as outer, tracing.operation("inner") as inner:
                    assert tracing.part("part") is inner is tracing.NOTHING
                    assert (outer.trace_id, outer.traceparent) == ("", "")
        assert collector.bodies == []


def test_log_lines_of_a_recorded_operation_have_its_trace(capsys):
    line = {"event": "something"}
    with Collector() as collector, exporting(collector):
        with tracing.operation("outer") as outer:
            assert tracing.add_trace_id(None, "", dict(line)) == {**line, "trace_id": outer.trace_id}
        assert tracing.add_trace_id(None, "", dict(line)) == line


def test_requests_have_templates_and_nobodys_trace_goes_on(tmp_path):
    async def work(collector):
        async with traced_web(tmp_path, collector) as subject:
            strange = ("traceparent", STRANGE)
            caller = await subject.token("users:read")
            await subject.get(
                "/api/v1/users/System%20Local/canary-user", caller.plus(strange), query={"x": "canary-query"}
            )
            await subject.get("/", Caller((strange,)), listener="gateway")
            await subject.get("/canary-path", Caller((strange,)))
            # The routes of other gateways, by somebody who is none.
            for wrong in (Caller((("authorization", "Bearer lgt_wrong"),)), Caller(), caller):
                reply = await subject.post(CHANGES, wrong.plus(strange), {"changes": []})
                assert reply.status in (401, 403)

    with Collector() as collector:
        run(work(collector))
        top = [span for span in collector.spans if not span.parent]
        assert {span.kind for span in top} == {"server"}
        named = [(span.name, span.attributes["http.response.status_code"]) for span in top]
        assert named[:3] == [
            ("GET /api/v1/users/{server}/{name}", 404),
            ("GET /{path:path}", 200),
            ("GET /{path:path}", 404),
        ]
        # Of those with a token that is none there is no span; without one it is a request like any other.
        assert named[3:] == [(f"POST {CHANGES}", 401)]
        assert "ab" * 16 not in {span.trace for span in collector.spans}
        assert b"canary" not in b"".join(collector.bodies)


def test_the_trace_of_a_gateway_with_a_token_goes_on(tmp_path):
    async def work(collector):
        async with traced_web(tmp_path, collector) as subject:
            await synchronise(subject)
            peer = await subject.token("user_records:write")
            body = {"changes": [given(subject)]}
            for value in (STRANGE, f"{STRANGE}-x", STRANGE.replace("ab", "00"), STRANGE[:-1] + "0"):
                reply = await subject.post(CHANGES, peer.plus(("traceparent", value)), body)
                assert reply.status == 200

    with Collector() as collector:
        run(work(collector))
        spans = [span for span in collector.spans if span.name == f"POST {CHANGES}"]
        # The last one says that its trace is not recorded.
        assert len(spans) == 3
        assert (spans[0].trace, spans[0].parent) == ("ab" * 16, "cd" * 8)
        assert "ab" * 16 not in {spans[1].trace, spans[2].trace}
        assert {"store write"} <= {span.name for span in collector.spans if span.parent == spans[0].id}


def test_other_gateways_hear_of_our_trace(tmp_path):
    with Collector() as collector, Other(tmp_path) as other:
        headers = []
        handler = other._server.RequestHandlerClass
        answer = handler.do_GET
        handler.do_GET = lambda self: (headers.append(self.headers["traceparent"]), answer(self))
        target = Destination("west", other.url, Secret.of_text("lgt_canary"), other.ca)
        with exporting(collector):
            with tracing.operation("exchange records"):
                ask(target, "GET", f"{CHANGES}?origin={ORIGIN}", Patience(5, 10, 1 << 20))
            ask(target, "GET", CHANGES, Patience(5, 10, 1 << 20))
        outer, call = collector.spans
        assert headers == [f"00-{outer.trace}-{call.id}-01", None]
        assert (call.name, call.kind, call.parent) == (f"GET {CHANGES}", "client", outer.id)
        assert ORIGIN.encode() not in b"".join(collector.bodies)
        assert b"canary" not in b"".join(collector.bodies)


def test_a_collector_that_does_not_answer_keeps_nobody_waiting_and_fills_nothing(monkeypatch):
    monkeypatch.setattr(trace_otlp, "QUEUED", 20)
    monkeypatch.setattr(trace_otlp, "BATCH", 5)
    tally = Tally()
    with Collector() as collector, structlog.testing.capture_logs() as lines:
        collector.open.clear()
        with exporting(collector, tally=tally):
            for _ in range(50):
                tracing.operation("one").end()
            # Nothing has left it: the rest found no room.
            assert (tally.exported, tally.lost["queue-full"]) == (0, 30)
            collector.status = 503
            collector.open.set()
        assert (tally.exported, dict(tally.lost)) == (0, {"queue-full": 30, "not-sent": 20, "rejected": 0})
        assert tally.is_reached is False
        # Four batches, one outage.
        assert [line["event"] for line in lines] == ["traces-not-sent"]


def test_orders_to_an_edge_end_with_its_answer_or_its_absence(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, *_):
            enforcement = it.service.enforcement
            with tracing.operation("answered"):
                enforcement.applied(tracing.part("first"))
            with tracing.operation("followed"):
                await it.adopt(NO_RULES)
            await it.settle(edge)
            edge.passes = False
            with tracing.operation("lost"):
                enforcement.applied(tracing.part("second"))
            await it.settle(edge)
            await edge.die()
            await eventually(lambda: not enforcement.edge_is_here)
            with tracing.operation("nobody there"):
                enforcement.applied(tracing.part("third"))

    with Collector() as collector:
        with exporting(collector):
            run(work())
        spans = {span.name: span for span in collector.spans}
        failures = {
            name: spans[name].attributes.get("error.type")
            for name in ("first", "enforcement", "second", "third")
        }
        assert failures == {"first": None, "enforcement": None, "second": "edge-away", "third": "edge-away"}
        assert spans["enforcement"].parent == spans["followed"].id
        assert spans["enforcement"].attributes["lockgate.cause"] == "policy-changed"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://c.example.org/v1/traces", (True, "c.example.org", 443, "/v1/traces")),
        ("https://[2001:db8::1]:4318", (True, "2001:db8::1", 4318, "/")),
        ("http://127.0.0.1:4318/v1/traces", (False, "127.0.0.1", 4318, "/v1/traces")),
        ("http://[::1]/x", (False, "::1", 80, "/x")),
        ("http://localhost:4318/v1/traces", (False, "localhost", 4318, "/v1/traces")),
        ("http://c.example.org/v1/traces", None),
        ("http://127.0.0.1.example.org/", None),
        ("http://127.0.0.1@c.example.org/", None),
        ("https://user:word@c.example.org/", None),
        ("https://c.example.org/?token=x", None),
        ("https://c.example.org:99999/", None),
        ("https://c.example.org/ x", None),
        ("ftp://c.example.org/", None),
        ("c.example.org", None),
        ("", None),
    ],
)
def test_addresses(url, found):
    if found is not None:
        assert parse_url(url) == found
        return
    with pytest.raises(ValueError, match=r"address|TLS"):
        parse_url(url)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("authorization=Bearer%20a%2Cb=, x-tenant=lab", {"authorization": "Bearer a,b=", "x-tenant": "lab"}),
        (" , ", {}),
        ("authorization", None),
        ("=x", None),
        ("a b=x", None),
        ("a=x%0d%0ahost:%20y", None),
        ("Host=elsewhere", None),
        ("content-length=0", None),
        (",".join(f"a{n}=x" for n in range(21)), None),
    ],
)
def test_headers(text, found):
    if found is not None:
        assert parse_headers(text) == found
        return
    with pytest.raises(ValueError, match="header"):
        parse_headers(text)
