"""The gateway's figures in the form of OpenMetrics 1.0, made anew at every scrape.

Names begin with "lockgate_". Nothing names a user, an address or a session.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from lockgate import __version__
from lockgate.server.sampling import figures

if TYPE_CHECKING:
    from lockgate.server.store.interface import WebAudience
    from lockgate.server.web.services import Services

CONTENT_TYPE = CONTENT_TYPE_LATEST


async def exposition(services: Services) -> bytes:
    """The text that a scraper gets."""
    store = services.store
    facts = _Facts(
        sessions=await store.sessions.live_count(),
        web=await store.web_sessions.live_counts(),
        drafts=len(await store.drafts.all()),
        peers=await _peers(services),
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(services, facts))
    return generate_latest(registry)


class _Facts:
    """What had to be asked of the store."""

    def __init__(
        self,
        sessions: int,
        web: Mapping[WebAudience, int],
        drafts: int,
        peers: Mapping[str, tuple[int, float | None]],
    ) -> None:
        """peers: other gateway → changes of records that it has not got, and when all was exchanged last."""
        self.sessions, self.web, self.drafts, self.peers = sessions, web, drafts, peers


async def _peers(services: Services) -> dict[str, tuple[int, float | None]]:
    shelf = services.store.user_records
    wanted = [each.name for each in services.in_force.tree.user_records.peers]
    known = await shelf.peers() if wanted else {}
    return {
        name: (await shelf.waiting(known[name].sent), known[name].succeeded)
        for name in wanted
        if name in known
    }


class _Figures(Collector):
    def __init__(self, services: Services, facts: _Facts) -> None:
        self._services, self._facts = services, facts

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        services, facts = self._services, self._facts
        gateway = services.gateway
        yield InfoMetricFamily("lockgate_build", "This release.", value={"version": __version__})
        yield GaugeMetricFamily(
            "lockgate_start_time_seconds",
            "When the server was started.",
            value=services.started,
            unit="seconds",
        )
        yield GaugeMetricFamily(
            "lockgate_configuration_revision", "The revision in force.", value=services.config.number
        )
        yield GaugeMetricFamily("lockgate_drafts", "Drafts that wait.", value=facts.drafts)
        yield GaugeMetricFamily(
            "lockgate_edge_up",
            "Whether the data plane is there.",
            value=int(gateway is not None and gateway.edge_is_up),
        )
        yield GaugeMetricFamily("lockgate_sessions", "Sessions of tunnels.", value=facts.sessions)
        tunnels = GaugeMetricFamily(
            "lockgate_tunnels", "Tunnels by what carries their packets.", labels=["transport"]
        )
        for transport, count in (gateway.transports() if gateway is not None else {}).items():
            tunnels.add_metric([transport], count)
        yield tunnels
        web = GaugeMetricFamily("lockgate_web_sessions", "Browsers that are signed in.", labels=["audience"])
        for audience, count in facts.web.items():
            web.add_metric([audience], count)
        yield web
        yield from self._records()
        yield from self._traffic()
        drops = CounterMetricFamily(
            "lockgate_dropped_packets", "Packets that the edge dropped since it started.", labels=["reason"]
        )
        for reason, count in sorted((gateway.counters if gateway is not None else {}).items()):
            drops.add_metric([reason], count)
        yield drops
        if gateway is not None:
            yield CounterMetricFamily(
                "lockgate_flow_records",
                "Records of flows that were written into the audit.",
                value=gateway.flows.recorded,
            )
            yield CounterMetricFamily(
                "lockgate_flow_records_lost",
                "Records of flows that are known to be missing.",
                value=gateway.flows.lost,
            )
        enforced = HistogramMetricFamily(
            "lockgate_enforcement_seconds",
            "From what takes access away, by its cause, to the edge's word that no packet passes by it any more.",
            labels=["cause"],
            unit="seconds",
        )
        for cause, found in sorted((gateway.enforcement.histograms if gateway is not None else {}).items()):
            enforced.add_metric([cause], found.cumulative(), sum_value=found.total)
        yield enforced
        yield from self._traces()
        yield from self._processes()

    def _records(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "lockgate_record_peer_waiting",
            "Changes of users' records that another gateway has not got.",
            labels=["peer"],
        )
        success = GaugeMetricFamily(
            "lockgate_record_peer_success_time_seconds",
            "When records were exchanged with another gateway last.",
            labels=["peer"],
            unit="seconds",
        )
        for name, (count, succeeded) in self._facts.peers.items():
            waiting.add_metric([name], count)
            if succeeded is not None:
                success.add_metric([name], succeeded)
        yield waiting
        yield success

    def _traces(self) -> Iterator[Metric]:
        traces = self._services.traces
        if traces is None:
            return
        tally = traces.tally
        yield CounterMetricFamily(
            "lockgate_trace_spans_exported", "Spans that a collector has taken.", value=tally.exported
        )
        lost = CounterMetricFamily(
            "lockgate_trace_spans_lost", "Spans that no collector has got.", labels=["reason"]
        )
        for reason, count in sorted(tally.lost.items()):
            lost.add_metric([reason], count)
        yield lost
        if traces.is_on and tally.is_reached is not None:
            yield GaugeMetricFamily(
                "lockgate_trace_collector_up",
                "Whether the last try to send traces reached the collector.",
                value=int(tally.is_reached),
            )

    def _traffic(self) -> Iterator[Metric]:
        sampling = self._services.sampling
        if sampling is None:
            return
        for direction, way in (("in", "from clients"), ("out", "to clients")):
            yield CounterMetricFamily(
                f"lockgate_tunnel_{direction}_bytes",
                f"Bytes of inner packets {way}, as far as they were reported.",
                value=sampling.carried[direction],
                unit="bytes",
            )

    def _processes(self) -> Iterator[Metric]:
        sampling = self._services.sampling
        pids = sampling.pids() if sampling is not None else {"control": os.getpid()}
        cpu = CounterMetricFamily(
            "lockgate_process_cpu_seconds", "Processor time used.", labels=["process"], unit="seconds"
        )
        memory = GaugeMetricFamily(
            "lockgate_process_resident_memory_bytes", "Resident memory.", labels=["process"], unit="bytes"
        )
        for name, pid in pids.items():
            found = figures(pid)
            if found is not None:
                cpu.add_metric([name], found.cpu)
                memory.add_metric([name], found.memory)
        yield cpu
        yield memory
