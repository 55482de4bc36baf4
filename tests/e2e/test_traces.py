"""An operator follows a sign-in and a commit at a collector, which the confined control plane sends them to.

The collector is on a host behind the gateway, found by its name, with a certificate of an authority of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, wait_for
from tests.lab.collector import Collector, Received
from tests.lab.gateway import PASSWORD
from tests.lab.topology import CLIENT4, INTRANET4

PLACE = 31
NAME = "collector.lab.test"
SECRET = "canary-of-the-collector"


def put(path: str, value: object) -> dict[str, object]:
    return {"op": "set", "path": path, "value": value}


@pytest.fixture(scope="module")
def collector(lab: Lab) -> Iterator[Collector]:
    lab.gateway.name_address(NAME, INTRANET4)
    collector = Collector(lab.intranet, NAME).start()
    yield collector
    collector.stop()


@pytest.fixture(scope="module")
def gateway(lab: Lab, collector: Collector) -> Iterator[Gateway]:
    """One that exports every trace."""
    gateway = Gateway(lab.gateway, "traced", place=PLACE).initialise().start()
    gateway.commit(
        put("traces/url", collector.url),
        put("traces/ca", collector.ca),
        put("traces/headers", f"authorization=Bearer%20{SECRET}, x-tenant=lab"),
        put("traces/share", 100),
        put("traces/enabled", True),
    )
    yield gateway
    gateway.stop()


def tree(spans: list[Received], top: Received) -> list[str]:
    """Names, indented by depth, in the order of their beginnings; without the store's transactions."""
    lines = [top.name]
    for span in spans:
        if span.parent == top.id and not span.name.startswith("store "):
            lines += [f"  {line}" for line in tree(spans, span)]
    return lines


def wait_span(collector: Collector, what: Callable[[Received], bool]) -> Received:
    found: list[Received] = wait_for(
        lambda: [span for span in collector.spans() if what(span)], "the collector has the span", deadline=30
    )
    return found[-1]


def wait_whole(collector: Collector, top: Received, *names: str) -> list[Received]:
    """The trace, once these spans of it have come too: parts may end after what they are parts of."""

    def whole() -> list[Received] | None:
        spans = collector.trace(top)
        return spans if {span.name for span in spans} >= set(names) else None

    return wait_for(whole, f"the collector has {names}", deadline=30)


def test_a_sign_in_from_the_first_frame_to_its_tunnel(
    lab: Lab, connect: Connect, gateway: Gateway, collector: Collector
) -> None:
    client = connect(gateway).wait_configured()
    session = gateway.session_of(client.user)
    assert lab.client.ping(INTRANET4)
    top = wait_span(collector, lambda span: span.attributes.get("session.id") == str(session["id"]))
    spans = wait_whole(collector, top, "edge attach")
    assert (top.kind, top.parent, top.failed) == ("server", "", False)
    assert top.attributes["lockgate.realm"] == "Users"
    assert top.attributes["lockgate.outcome"] == "tunnel"
    assert tree(spans, top) == [
        "sign-in",
        "  client answers",
        "  password check",
        "  policy decision",
        "  session commit",
        "  client acknowledges",
        "  edge attach",
    ]
    parts = {span.name: span for span in spans}
    assert parts["password check"].attributes["lockgate.outcome"] == "right"
    writes = [span for span in spans if span.name == "store write"]
    assert parts["session commit"].id in {span.parent for span in writes}
    assert {span.attributes["db.system.name"] for span in writes} == {"sqlite"}
    for span in spans:
        assert top.begin <= span.begin <= span.end
        assert span.service["service.name"] == "lockgate"
    # Whoever sent this runs under a filter of system calls, without privileges to be had.
    status = gateway.host.run(["cat", f"/proc/{gateway.pid('control')}/status"]).stdout
    assert "\nNoNewPrivs:\t1\n" in status
    assert "\nSeccomp:\t2\n" in status
    # The log of the gateway leads to the trace.
    assert gateway.wait_event("sign-in", user=client.user)["trace_id"] == top.trace


def test_a_wrong_password(connect: Connect, gateway: Gateway, collector: Collector) -> None:
    client = connect(gateway, password="not this one, canary")
    client.wait_refused()
    line = gateway.wait_event("sign-in", user=client.user, outcome="failed")
    found = wait_span(
        collector, lambda span: span.name == "password check" and span.trace == line["trace_id"]
    )
    assert found.attributes["lockgate.outcome"] == "wrong-password"


def test_a_commit_to_its_barrier(connect: Connect, gateway: Gateway, collector: Collector) -> None:
    client = connect(gateway).wait_configured()
    gateway.commit(put("access_control", []))
    revision = gateway.status()["revision"]
    commit = wait_span(
        collector,
        lambda span: span.name == "commit" and span.attributes.get("lockgate.revision") == revision,
    )
    spans = wait_whole(collector, commit, "enforcement", "POST /api/v1/config/apply")
    top = next(span for span in spans if not span.parent)
    assert tree(spans, top) == [
        "POST /api/v1/config/apply",
        "  commit",
        "    judge",
        "    store",
        "    compile",
        "    follow",
        "      enforcement",
    ]
    assert (top.attributes["http.request.method"], top.attributes["http.response.status_code"]) == (
        "POST",
        200,
    )
    enforcement = next(span for span in spans if span.name == "enforcement")
    assert (enforcement.failed, enforcement.attributes["lockgate.cause"]) == (False, "policy-changed")
    assert enforcement.attributes["lockgate.sessions"] == 1
    assert gateway.session_of(client.user)


def test_a_collector_that_is_away_costs_a_line_and_spans(
    connect: Connect, gateway: Gateway, collector: Collector
) -> None:
    collector.stop()
    connect(gateway).wait_configured()
    gateway.wait_event("traces-not-sent")
    connect(gateway).wait_configured()
    collector.start()
    client = connect(gateway).wait_configured()
    session = gateway.session_of(client.user)
    wait_span(collector, lambda span: span.attributes.get("session.id") == str(session["id"]))
    assert gateway.wait_event("traces-sent-again")["lost"] > 0
    assert len(gateway.events("traces-not-sent")) == 1
    metrics = gateway.host.run(
        ["curl", "-sk", f"https://127.0.0.1:{gateway.admin_port}/metrics"]
    ).stdout.splitlines()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in metrics if line[0] != "#"}
    assert values['lockgate_trace_spans_lost_total{reason="not-sent"}'] > 0
    assert values['lockgate_trace_spans_lost_total{reason="queue-full"}'] == 0
    assert values["lockgate_trace_spans_exported_total"] > 0
    assert values["lockgate_trace_collector_up"] == 1


def test_nothing_that_came_names_a_person_or_a_secret(gateway: Gateway, collector: Collector) -> None:
    """Last, about all that the others did."""
    users = {entry["user"] for entry in gateway.events("sign-in")}
    passwords = [PASSWORD, "not this one, canary", gateway.admin_password]
    requests = collector.requests()
    assert len(users) >= 4
    assert {head["authorization"] for head, _ in requests} == {f"Bearer {SECRET}"}
    received = b"".join(body for _, body in requests)
    for word in (*users, *passwords, SECRET, CLIENT4):
        assert word.encode() not in received, word
    # Nor do those who may read the configuration see what was sent along.
    assert SECRET not in str(gateway.rest("GET", "/config", query={"path": "traces"}))
    assert SECRET not in gateway.log()
