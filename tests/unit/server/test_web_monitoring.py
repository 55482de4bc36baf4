"""Health, readiness and metrics say what is so; samples are what a graph can be drawn from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.edge_link import Traffic, Transport
from lockgate.server.config.edits import SetValue
from lockgate.server.gateway.enforcement import Histogram
from lockgate.server.sampling import KEEP, LONG, MEDIUM, PERIOD, RANGES, Sampling, figures, mean
from lockgate.server.store.records import Sample
from tests.unit.server.support import Clock, new_store, place_of, run
from tests.unit.server.web_subject import NOBODY, web


def test_readiness_is_the_truth_about_edge_and_store(tmp_path, monkeypatch):
    async def work():
        async with web(tmp_path) as subject:
            link = subject.parts.gateway._link
            monkeypatch.setattr(type(link), "is_up", property(lambda self: True))
            ready = await subject.get("/readyz")
            assert (ready.status, ready.json) == (200, {"edge": "up", "store": "up"})

            async def gone():
                raise ProblemError(Problem("store-unreachable", "It does not answer.", "Start it."))

            database = subject.store.database
            monkeypatch.setattr(type(database), "read", lambda *_: gone())
            ready = await subject.get("/readyz")
            assert (ready.status, ready.json) == (503, {"edge": "up", "store": "down"})
            monkeypatch.undo()
            ready = await subject.get("/readyz")
            assert (ready.status, ready.json) == (503, {"edge": "down", "store": "up"})
            # The process is well all the same, and tells nothing more.
            health = await subject.get("/healthz")
            assert (health.status, health.json) == (200, {"status": "up"})

    run(work())


def test_metrics_are_openmetrics_and_name_nobody(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            for name in ("alice", "bob"):
                await subject.tunnel(name)
            await subject.portal()
            subject.parts.gateway.counters = {"denied": 7, "rate": 2}
            subject.parts.gateway.enforcement.histograms["disconnected"] = Histogram().plus(0.2)
            await subject.parts.services.sampling.turn()
            reply = await subject.get("/metrics", source="127.0.0.1")
            assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            text = reply.content.decode()
            families = {family.name: family for family in text_string_to_metric_families(text)}
            values = {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in families.values()
                for sample in family.samples
            }
            assert values["lockgate_sessions",] == 2
            assert values["lockgate_web_sessions", "portal"] == 1
            assert values["lockgate_edge_up",] == 0
            assert values["lockgate_configuration_revision",] == 1
            assert values["lockgate_dropped_packets_total", "denied"] == 7
            assert values["lockgate_enforcement_seconds_bucket", "0.1", "disconnected"] == 0
            assert values["lockgate_enforcement_seconds_bucket", "0.25", "disconnected"] == 1
            assert values["lockgate_enforcement_seconds_sum", "disconnected"] == 0.2
            assert values["lockgate_process_resident_memory_bytes", "control"] > 1 << 20
            assert "lockgate_process_cpu_seconds" in families
            for word in ("alice", "bob", "192.0.2", "10.88.", "laptop"):
                assert word not in text

    run(work())


def test_metrics_are_for_listed_addresses_and_for_who_may_read_the_status(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            for source, status in (("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 401), ("127.0.0.2", 401)):
                reply = await subject.get("/metrics", source=source if ":" not in source else f"[{source}]")
                assert reply.status == status, source
            assert (await subject.get("/metrics", await subject.token("system:read"))).status == 200
            assert (await subject.get("/metrics", await subject.token("logs:write"))).status == 403
            await subject.parts.config.apply("t", "", [SetValue("metrics/sources", ["192.0.2.0/24"])])
            assert (await subject.get("/metrics", source="192.0.2.7")).status == 200
            assert (await subject.get("/metrics", source="127.0.0.1")).status == 401
            # A forwarding header is nobody's address.
            caller = NOBODY.plus(("x-forwarded-for", "192.0.2.7"))
            assert (await subject.get("/metrics", caller, source="127.0.0.1")).status == 401

    run(work())


# -- samples -------------------------------------------------------------------------------------------


@dataclass
class FakeTunnel:
    session: object
    conn: int
    transport: Transport
    traffic: Traffic


class FakeGateway:
    def __init__(self) -> None:
        self.tunnels: list[FakeTunnel] = []

    def add(self, number: int, user: str, transport: Transport = Transport.ESP, conn: int = 1) -> FakeTunnel:
        session = SimpleNamespace(id=number, generation=1, server="System Local", user=user)
        self.tunnels.append(FakeTunnel(session, conn, transport, Traffic(0, 0, 0, 0, 0)))
        return self.tunnels[-1]


def test_a_sample_counts_people_tunnels_and_bits(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            gateway, clock, ticks = FakeGateway(), Clock(1_000_003.0), Clock(0.0)
            sampling = Sampling(store, gateway, place_of(tmp_path), clock, ticks)
            one, two = gateway.add(1, "alice"), gateway.add(2, "alice", Transport.TLS)
            gateway.add(3, "bob", Transport.ESP, conn=0)  # away
            await sampling.turn()
            assert "in_bps" not in sampling.latest  # nothing to compare with
            one.traffic, two.traffic = Traffic(0, 1000, 0, 500, 0), Traffic(0, 250, 0, 0, 0)
            clock.now, ticks.now = clock.now + 10, 10.0
            await sampling.turn()
            got = sampling.latest
            assert (got["users"], got["tunnels_esp"], got["tunnels_tls"], got["ssl_connections"]) == (
                2,
                1,
                1,
                2,
            )
            assert (got["in_bps"], got["out_bps"]) == (1000.0, 400.0)
            assert got["memory_control"] > 1 << 20
            assert got["cpu_control"] >= 0
            # Another edge counts from nothing; a tunnel that went takes nothing back.
            one.traffic = Traffic(0, 100, 0, 0, 0)
            gateway.tunnels.remove(two)
            clock.now, ticks.now = clock.now + 10, 20.0
            await sampling.turn()
            assert (sampling.latest["in_bps"], sampling.latest["out_bps"]) == (80.0, 0.0)
            assert sampling.carried == {"in": 1350, "out": 500}
            kept = await store.samples.range(PERIOD, 0, clock() + 1)
            assert [sample.time for sample in kept] == [1_000_000.0, 1_000_010.0, 1_000_020.0]

    run(work())


def test_samples_are_rolled_up_and_forgotten_when_no_graph_shows_them(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            clock = Clock(100 * LONG + 1.0)
            sampling = Sampling(store, FakeGateway(), place_of(tmp_path), clock, clock)
            for n in range(2 * LONG // PERIOD):
                await store.samples.add(Sample(98.0 * LONG + n * PERIOD, PERIOD, {"users": float(n)}))
            await sampling.turn()
            middle = await store.samples.range(MEDIUM, 0, clock())
            assert len(middle) == 2 * LONG // MEDIUM
            assert middle[0].values["users"] == pytest.approx(14.5)  # of 0 to 29
            hours = await store.samples.range(LONG, 0, clock())
            assert [sample.time for sample in hours] == [98 * LONG, 99 * LONG]
            assert hours[1].values["users"] == pytest.approx(539.5)
            for period, seconds in KEEP.items():
                await store.samples.add(Sample(clock() - seconds - 1, period, {"users": 1.0}))
            clock.now += MEDIUM
            await sampling.turn()
            for period, seconds in KEEP.items():
                assert all(
                    each.time >= clock() - seconds
                    for each in await store.samples.range(period, 0, clock() + 1)
                )
            for span in RANGES.values():
                assert span.seconds <= KEEP[span.period]

    run(work())


def test_a_mean_is_of_those_that_have_the_figure():
    assert mean([{"a": 1.0}, {"a": 3.0, "b": 5.0}]) == {"a": 2.0, "b": 5.0}


def test_figures_of_a_process():
    mine = figures(os.getpid())
    assert mine is not None
    assert mine.cpu > 0
    assert figures(2**22 + 1) is None
