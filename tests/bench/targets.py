"""What Lockgate is to reach, beside which peer, and what a run says about it.

A *bound* is a number, or a share of what another row reached in the same run. A floor is where the work may not
stop, a goal is what it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import columns, rows, signins
from tests.bench.columns import DATAGRAMS, DOWN, IDLE, LOADED, UP
from tests.bench.results import Results

IDLE_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a run: a row's median in a column, or what `compute` makes of several."""

    row: str
    column: str
    compute: Callable[[Results], float | None] | None = None

    def of(self, results: Results) -> float | None:
        return self.compute(results) if self.compute else results.median(self.row, self.column)


@dataclass(frozen=True, slots=True)
class Bound:
    """`factor` as it is, or that many times what `beside` reached in the same column."""

    factor: float
    beside: str | None = None

    def value(self, results: Results, column: str) -> float | None:
        if self.beside is None:
            return self.factor
        theirs = results.median(self.beside, column)
        return None if theirs is None else self.factor * theirs

    def __str__(self) -> str:
        return f"{self.factor:g}" if self.beside is None else f"{self.factor:g} × {self.beside}"


@dataclass(frozen=True, slots=True)
class Target:
    """One figure with its floor and goal; all bounds of each must hold. most: smaller is better.

    instead: goals that count when the peers of `goal` are not in the run.
    """

    area: str
    figure: Figure
    floor: tuple[Bound, ...] = ()
    goal: tuple[Bound, ...] = ()
    instead: tuple[Bound, ...] = ()
    most: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a figure stands to one bound. margin: share by which it is better; negative: by which it misses."""

    bound: Bound
    limit: float
    margin: float

    @property
    def reached(self) -> bool:
        return self.margin >= 0


def judge(
    results: Results, target: Target, bounds: tuple[Bound, ...], instead: tuple[Bound, ...] = ()
) -> list[Verdict]:
    """One verdict for each bound that this run can tell about."""
    value = target.figure.of(results)
    if value is None:
        return []
    found = []
    for bound in bounds:
        limit = bound.value(results, target.figure.column)
        if limit:
            margin = 1 - value / limit if target.most else value / limit - 1
            found.append(Verdict(bound, limit, margin))
    if not found and instead:
        return judge(results, target, instead)
    return found


def _edge_memory(results: Results) -> float | None:
    """MiB of the data plane, brought to 1000 sessions."""
    before = results.median(signins.MEMORY, "edge MiB before")
    each = results.median(signins.MEMORY, "edge KiB/session")
    return None if before is None or each is None else before + each * IDLE_SESSIONS / 1024


def _all_memory(results: Results) -> float | None:
    """MiB of data and control plane, brought to 300 sessions."""
    total = 0.0
    for name in ("edge", "control"):
        before = results.median(signins.MEMORY, f"{name} MiB before")
        each = results.median(signins.MEMORY, f"{name} KiB/session")
        if before is None or each is None:
            return None
        total += before + each * 300 / 1024
    return total


def _without_hash(results: Results) -> float | None:
    """CPU milliseconds of the server for one sign-in, less those of the password hash."""
    row = signins.CHEAP.row
    parts = [results.median(row, f"{name} CPU ms") for name in ("edge", "control", "hash")]
    if parts[0] is None or parts[1] is None:
        return None
    return parts[0] + parts[1] - (parts[2] or 0.0)


def _seconds(row: str, column: str) -> Callable[[Results], float | None]:
    """A column of milliseconds in seconds."""

    def compute(results: Results) -> float | None:
        found = results.median(row, column)
        return None if found is None else found / 1e3

    return compute


def _stream(
    area: str,
    row: str,
    floor: tuple[Bound, ...],
    goal: tuple[Bound, ...],
    instead: tuple[Bound, ...] = (),
) -> list[Target]:
    return [
        Target(f"{area}, Gbit/s {way}", Figure(row, columns.rate(way, 1)), floor, goal, instead)
        for way in (UP, DOWN)
    ]


def _cpu(area: str, row: str, floor: float, goal: float) -> list[Target]:
    return [
        Target(
            f"{area}, gateway CPU s/GB {way}",
            Figure(row, columns.cpu("gateway", way)),
            (Bound(floor),),
            (Bound(goal),),
            most=True,
        )
        for way in (UP, DOWN)
    ]


def _ping(what: str, column: str, floor: float | None, goal: float) -> Target:
    floors = () if floor is None else (Bound(floor),)
    return Target(what, Figure(rows.OWN_GCM, column), floors, (Bound(goal),), most=True)


TARGETS: tuple[Target, ...] = (
    *_stream(
        "ESP-GCM, one stream",
        rows.OWN_GCM,
        (Bound(1.5, rows.WIREGUARD), Bound(4, rows.OPENVPN)),
        (Bound(0.8, rows.PROTOTYPE_GCM),),
        (Bound(2.3, rows.WIREGUARD),),
    ),
    *_cpu("ESP-GCM", rows.OWN_GCM, 2.0, 1.3),
    *_stream(
        "ESP-CBC SHA-1, one stream",
        rows.OWN_CBC,
        (Bound(1.2, rows.WIREGUARD),),
        (Bound(0.8, rows.PROTOTYPE_CBC),),
        (Bound(1.3, rows.WIREGUARD),),
    ),
    *_stream("TLS, one stream", rows.OWN_TLS, (Bound(1.3, rows.OCSERV_TLS),), (Bound(2.5, rows.OCSERV_TLS),)),
    *_cpu("TLS", rows.OWN_TLS, 4.0, 2.0),
    Target(
        "64-byte datagrams, kpps",
        Figure(rows.OWN_GCM, DATAGRAMS),
        (Bound(3, rows.WIREGUARD), Bound(1, rows.OCSERV_DTLS)),
        (Bound(0.65, rows.PROTOTYPE_GCM),),
        (Bound(1.3, rows.OCSERV_DTLS),),
    ),
    _ping("ping idle, median ms", columns.ping(IDLE, "median"), 0.15, 0.12),
    _ping("ping under load, median ms", columns.ping(LOADED, "median"), 5, 2.5),
    _ping("ping under load, p99 ms", columns.ping(LOADED, "p99"), None, 10),
    Target(
        "gateway data plane with 1000 idle sessions, MiB",
        Figure(signins.MEMORY, "edge MiB", _edge_memory),
        (Bound(40 + 0.3 * IDLE_SESSIONS),),
        (Bound(15 + IDLE_SESSIONS * 64 / 1024),),
        most=True,
    ),
    Target(
        "gateway altogether with 300 idle sessions, MiB",
        Figure(signins.MEMORY, "all MiB", _all_memory),
        (),
        (Bound(240),),
        most=True,
    ),
    Target(
        "connect, no prompts, cheap hash, s",
        Figure(rows.OWN_GCM, columns.CONNECT),
        (Bound(0.25),),
        (Bound(0.1),),
        most=True,
    ),
    Target(
        "resume by cookie, s",
        Figure(signins.RESUME_ALONE, "p50 ms", _seconds(signins.RESUME_ALONE, "p50 ms")),
        (),
        (Bound(0.06),),
        most=True,
    ),
    Target(
        "sign-ins a second, 16 at a time, cheap hash",
        Figure(signins.CHEAP.row, "per s"),
        (Bound(50),),
        (Bound(110),),
    ),
    Target(
        "a sign-in, server CPU without the hash, ms",
        Figure(signins.CHEAP.row, "CPU ms less hash", _without_hash),
        (Bound(15),),
        (Bound(6),),
        most=True,
    ),
)
