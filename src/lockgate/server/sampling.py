"""Figures of the gateway over time, for the console's graphs.

Every 10 seconds one sample goes into the store. Whole spans of them are rolled up to 5 minutes, those to hours;
each is kept for as long as a graph shows it. Rates are means over the time between two samples.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import structlog

from lockgate.protocol.edge_link import Traffic, Transport
from lockgate.server.datadir import DataDirectory
from lockgate.server.gateway.tunnel import Tunnel
from lockgate.server.store.interface import Samples, Store
from lockgate.server.store.records import Sample

log = structlog.get_logger("sampling")

PERIOD, MEDIUM, LONG = 10, 300, 3600  # seconds of one sample
HOUR, DAY = 3600.0, 86400.0
KEEP = {PERIOD: 2 * HOUR, MEDIUM: 8 * DAY, LONG: 366 * DAY}  # a graph of an hour may begin in the one before

Range = Literal["hour", "day", "week", "month", "year"]

FIGURES: dict[str, str] = {
    "users": "users with a tunnel's session",
    "sessions": "sessions",
    "tunnels_esp": "tunnels that use ESP",
    "tunnels_tls": "tunnels that use TLS",
    "ssl_connections": "TLS connections: tunnels, whatever carries their packets, and browsers",
    "web": "browsers that are signed in",
    "in_bps": "bits per second from clients",
    "out_bps": "bits per second to clients",
    "cpu_edge": "share of one processor, edge",
    "cpu_control": "share of one processor, control plane",
    "memory_edge": "resident bytes, edge",
    "memory_control": "resident bytes, control plane",
}


@dataclass(frozen=True, slots=True)
class Span:
    """What a graph shows: how many seconds back, and the samples it is made of."""

    seconds: float
    period: int


RANGES: dict[Range, Span] = {
    "hour": Span(HOUR, PERIOD),
    "day": Span(DAY, MEDIUM),
    "week": Span(7 * DAY, MEDIUM),
    "month": Span(31 * DAY, LONG),
    "year": Span(365 * DAY, LONG),
}


class Gateway(Protocol):
    """The gateway, as far as sampling looks at it."""

    @property
    def tunnels(self) -> Iterable[Tunnel]: ...


_NOTHING = Traffic(0, 0, 0, 0, 0)

Carried = Mapping[tuple[int, int], Traffic]
"""Traffic by session and generation."""


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """What a process has used: seconds of processor so far, and resident bytes now."""

    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class _Moment:
    """What the next sample is compared with. at: seconds that only rise."""

    at: float
    carried: Carried
    used: Mapping[str, ProcessFigures]


class Sampling:
    """One per control plane; `Chores` call `turn`."""

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        directory: DataDirectory,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._samples = store, store.samples
        self._gateway, self._directory = gateway, directory
        self._clock, self._ticks = clock, ticks
        self._before: _Moment | None = None
        self._rolled = 0.0
        self.latest: Mapping[str, float] = {}
        self.carried = {"in": 0, "out": 0}  # bytes since this process began, as far as they were reported

    async def turn(self) -> None:
        """Takes a sample, and rolls up and clears away when it is time."""
        now = self._clock()
        self.latest = await self._take()
        await self._samples.add(Sample(now - now % PERIOD, PERIOD, self.latest))
        if not 0 <= now - self._rolled < MEDIUM:
            self._rolled = now
            await roll_up(self._samples, now)

    async def _take(self) -> dict[str, float]:
        carried: dict[tuple[int, int], Traffic] = {}
        users: set[tuple[str, str]] = set()
        transports = dict.fromkeys(Transport, 0)
        for tunnel in self._gateway.tunnels:
            session = tunnel.session
            carried[session.id, session.generation] = tunnel.traffic
            users.add((session.server, session.user))
            transports[tunnel.transport if tunnel.conn else Transport.NONE] += 1
        found = {name: figures(pid) for name, pid in self.pids().items()}
        now = _Moment(
            self._ticks(), carried, {name: each for name, each in found.items() if each is not None}
        )
        web = sum((await self._store.web_sessions.live_counts()).values())
        esp, tls = transports[Transport.ESP], transports[Transport.TLS]
        values: dict[str, float] = {
            "users": len(users),
            "sessions": await self._store.sessions.live_count(),
            "tunnels_esp": esp,
            "tunnels_tls": tls,
            "web": web,
            "ssl_connections": esp + tls + web,
        }
        values.update({f"memory_{name}": each.memory for name, each in now.used.items()})
        if self._before is not None:
            came, went = _moved(self._before.carried, carried)
            self.carried["in"] += came
            self.carried["out"] += went
            values.update(_rates(self._before, now, came, went))
        self._before = now
        return values

    def pids(self) -> dict[str, int]:
        """Of the processes that are there, by name."""
        pids = {"control": os.getpid()}
        try:
            told = json.loads((self._directory.run / "pids.json").read_text())
            pids["edge"] = int(told["edge"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the edge is starting
        return pids


def _moved(before: Carried, now: Carried) -> tuple[int, int]:
    """Bytes from and to clients between two looks."""
    came = went = 0
    for key, traffic in now.items():
        old = before.get(key)
        if old is None or traffic.bytes_in < old.bytes_in or traffic.bytes_out < old.bytes_out:
            old = _NOTHING  # a new tunnel, or another edge, which counts from nothing
        came += traffic.bytes_in - old.bytes_in
        went += traffic.bytes_out - old.bytes_out
    return came, went


def _rates(before: _Moment, now: _Moment, came: int, went: int) -> dict[str, float]:
    seconds = now.at - before.at
    if seconds <= 0:
        return {}
    values = {"in_bps": came * 8 / seconds, "out_bps": went * 8 / seconds}
    for name, each in now.used.items():
        if name in before.used:
            values[f"cpu_{name}"] = max(0.0, each.cpu - before.used[name].cpu) / seconds
    return values


def figures(pid: int) -> ProcessFigures | None:
    """What the kernel says about a process; None when it is gone (proc(5): stat, fields 14, 15 and 24)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may hold anything.
    fields = text.rpartition(")")[2].split()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return ProcessFigures((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page)


async def roll_up(samples: Samples, now: float) -> None:
    """Makes the samples of longer spans that are missing, and forgets what no graph shows any more."""
    await samples.rollup(PERIOD, MEDIUM, now, mean)
    await samples.rollup(MEDIUM, LONG, now, mean)
    for period, seconds in KEEP.items():
        await samples.prune(period, now - seconds)


def mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's mean over those samples that have it."""
    names = dict.fromkeys(name for each in values for name in each)
    result = {}
    for name in names:
        found = [each[name] for each in values if name in each]
        result[name] = sum(found) / len(found)
    return result
