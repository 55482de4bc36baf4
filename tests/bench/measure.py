"""All figures of one way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import columns, datagrams, latency, outages
from tests.bench.accounting import CpuMeter, pss_kib, rss_kib
from tests.bench.columns import DATAGRAMS, IDLE, LOADED, WAYS
from tests.bench.results import Results
from tests.bench.traffic import both_ways, interface_bytes, transfer
from tests.bench.way import Peer, Scale, Way
from tests.lab import Lab, LabError

STREAMS = (1, 4)
DELAY, LOSS = 10, 0.1
"""The bad path: milliseconds and per cent of packets lost, on each way."""

_SMALL_INTERVAL, _LOAD_INTERVAL = 0.005, 0.01  # seconds between echo requests
_FIRST_RATE = 16_000.0  # datagrams a second, where the first search starts


class Measurer:
    """Measures ways in one lab. tool: the program `lockgate-path`."""

    def __init__(self, lab: Lab, results: Results, scale: Scale, tool: Path) -> None:
        self.lab, self.results, self.scale, self._tool = lab, results, scale, tool

    def measure(self, peer: Peer) -> None:
        """Open one way and measure it. What fails is noted under the row."""
        row = peer.row
        with self.results.attempt(row), peer.open() as way:
            try:
                self._figures(peer, way)
            finally:
                self._summary(row)

    def _figures(self, peer: Peer, way: Way) -> None:
        row = peer.row
        way.check()
        if way.connect_seconds is not None:
            self.results.add(row, columns.CONNECT, way.connect_seconds)
        if not peer.brief:
            self._part(row, "idle ping", partial(self._ping, row, IDLE, _SMALL_INTERVAL))
        for streams in STREAMS[:1] if peer.brief else STREAMS:
            for direction in WAYS:
                self._part(
                    row,
                    f"{direction}, {streams} streams",
                    partial(self._stream, row, way, direction, streams),
                )
        if not peer.brief:
            self._part(row, "loaded ping", partial(self._loaded, row))
            self._part(row, "datagrams", partial(self._datagrams, row))
        self._memory(row, way)
        way.check()
        if not peer.brief:
            self._part(row, "bad path", partial(self._bad_path, row, way))
            self._part(row, "outages", partial(self._outages, peer, way))

    def fallback(self, peer: Peer) -> None:
        """UDP blocked and unblocked under this peer, which can do without."""
        with self.results.attempt(f"{peer.row}, fallback"), peer.open() as way:
            fallback, back = outages.fallback_and_return(self.lab, way)
            self.results.add(peer.row, columns.FALLBACK, fallback)
            self.results.add(peer.row, columns.RETURN, back)

    def _part(self, row: str, what: str, action: Callable[[], None]) -> None:
        """One figure of a row; the others go on without it, in a healthy network."""
        with self.results.attempt(f"{row}, {what}"):
            try:
                action()
            finally:
                self.lab.impair.heal()

    def _stream(self, row: str, way: Way, direction: str, streams: int) -> None:
        lab = self.lab
        before = interface_bytes(lab.client, way.interface) if way.interface else 0
        with CpuMeter({"gateway": way.gateway, "client": way.client}) as meter:
            moved = transfer(lab.client, lab.intranet, direction, self.scale.seconds, streams)
        if way.interface and interface_bytes(lab.client, way.interface) - before < moved.received:
            raise LabError("the stream did not go through the tunnel")
        self.results.add(row, columns.rate(direction, streams), moved.gbit)
        if streams == 1 and way.interface:
            for end, used in meter.used.items():
                self.results.add(row, columns.cpu(end, direction), used / (moved.received / 1e9))

    def _loaded(self, row: str) -> None:
        # Longer than the pings take, even if some are late; it ends with them.
        seconds = round(self.scale.pings * _LOAD_INTERVAL) + 10
        with both_ways(self.lab.client, self.lab.intranet, seconds):
            self._ping(row, LOADED, _LOAD_INTERVAL)

    def _ping(self, row: str, state: str, interval: float) -> None:
        found = latency.measure(self.lab.client, self.scale.pings, interval)
        self.results.add(row, columns.ping(state, "median"), found.median)
        self.results.add(row, columns.ping(state, "p99"), found.p99)

    def _datagrams(self, row: str) -> None:
        lab, scale = self.lab, self.scale
        sender = datagrams.Sender(lab.client, lab.intranet, self._tool, scale.trial)
        # Later rounds begin near the first one's result.
        known = self.results.median(row, DATAGRAMS)
        start = known * 1e3 * 0.8 if known else _FIRST_RATE
        self.results.add(row, DATAGRAMS, datagrams.measure(sender, start, scale.steps) / 1e3)

    def _memory(self, row: str, way: Way) -> None:
        for end, processes in (("gateway", way.gateway()), ("client", way.client())):
            if processes:
                self.results.add(row, columns.memory(end, "RSS"), rss_kib(processes) / 1024)
                self.results.add(row, columns.memory(end, "PSS"), pss_kib(processes) / 1024)

    def _bad_path(self, row: str, way: Way) -> None:
        lab = self.lab
        lab.impair.lengthen(DELAY, LOSS, self._tool)
        for streams in self.scale.bad:
            for direction in WAYS:
                moved = transfer(lab.client, lab.intranet, direction, self.scale.seconds + 1, streams)
                self.results.add(row, columns.rate(direction, streams, bad=True), moved.gbit)

    def _outages(self, peer: Peer, way: Way) -> None:
        if way.interface is None:
            return
        self.results.add(peer.row, columns.AFTER_CUT, outages.after_cut(self.lab, self.scale.cut))
        if peer.roams:
            for seconds in outages.after_roaming(self.lab):
                self.results.add(peer.row, columns.AFTER_ROAMING, seconds)

    def _summary(self, row: str) -> None:
        def last(column: str) -> str:
            values = self.results.samples.get(row, {}).get(column)
            return f"{values[-1]:8.2f}" if values else "       –"

        rates = [last(columns.rate(direction, streams)) for streams in STREAMS for direction in WAYS]
        print(
            f"  {row:<42} {' '.join(rates)} Gbit/s {last(DATAGRAMS)} kpps"
            f" {last(columns.ping(LOADED, 'median'))} ms",
            flush=True,
        )
