"""The gateway's figures in the form of OpenMetrics 1.0, made anew at every scrape.

Names begin with "lockgate_". Nothing names a user, an address or a session.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from lockgate import __version__
from lockgate.server.sampling import figures

if TYPE_CHECKING:
    from lockgate.server.web.services import Services

CONTENT_TYPE = CONTENT_TYPE_LATEST


async def exposition(services: Services) -> bytes:
    """The text that a scraper gets."""
    store = services.store
    facts = _Facts(
        sessions=await store.sessions.live_count(),
        web=[each.audience for each in await store.web_sessions.live()],
        drafts=len(await store.drafts.all()),
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(services, facts))
    return generate_latest(registry)


class _Facts:
    """What had to be asked of the store."""

    def __init__(self, sessions: int, web: list[str], drafts: int) -> None:
        self.sessions, self.web, self.drafts = sessions, web, drafts


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
        for audience in ("console", "portal"):
            web.add_metric([audience], facts.web.count(audience))
        yield web
        yield from self._traffic()
        drops = CounterMetricFamily(
            "lockgate_dropped_packets", "Packets that the edge dropped since it started.", labels=["reason"]
        )
        for reason, count in sorted((gateway.counters if gateway is not None else {}).items()):
            drops.add_metric([reason], count)
        yield drops
        yield from self._processes()

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
