"""What the picture shows: its panels, bars and marks, before anything is drawn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench import columns, rows, targets
from tests.bench.columns import DATAGRAMS, DOWN, IDLE, LOADED, UP, WAYS
from tests.bench.results import Results


@dataclass(frozen=True, slots=True)
class Bar:
    """One value of a peer. floor, goal: what its target asks for in this run; dot: a second value, on the bar's line."""

    value: float | None
    floor: float | None = None
    goal: float | None = None
    dot: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of all peers for one kind of figure, one for each name in `series`.

    dots: what the dots are, if there are any. log: the axis is logarithmic. best: "high" or "low".
    """

    title: str
    unit: str
    series: tuple[str, ...]
    bars: dict[str, tuple[Bar, ...]]
    best: str
    raw: str = ""
    dots: str = ""
    log: bool = False


def all_of(results: Results) -> list[Panel]:
    """The panels that have a bar."""
    found = [
        _streams(results, 1),
        _streams(results, 4),
        _cpu(results),
        _datagrams(results),
        _ping(results),
        _memory(results),
        _bad_path(results),
        _times(results),
    ]
    return [panel for panel in found if panel.bars]


def _bars(results: Results, wanted: Sequence[tuple[str, str | None]]) -> dict[str, tuple[Bar, ...]]:
    """wanted: the column of each series, and that of its dot."""
    found = {}
    for row in rows.ORDER:
        if row == rows.RAW or row in rows.SAME_CLIENT:
            continue
        bars = tuple(
            Bar(
                results.median(row, column),
                *_marks(results, row, column),
                results.median(row, dot) if dot else None,
            )
            for column, dot in wanted
        )
        if any(bar.value is not None for bar in bars):
            found[row] = bars
    return found


def _marks(results: Results, row: str, column: str) -> tuple[float | None, float | None]:
    """The strictest floor and goal of a figure."""
    for target in targets.TARGETS:
        if (target.figure.row, target.figure.column) == (row, column):
            strictest = min if target.most else max
            found = [
                [verdict.limit for verdict in targets.judge(results, target, bounds, instead)]
                for bounds, instead in ((target.floor, ()), (target.goal, target.instead))
            ]
            floor, goal = (strictest(limits) if limits else None for limits in found)
            return floor, goal
    return None, None


def _raw(results: Results, wanted: Sequence[str], digits: int) -> str:
    values = [results.median(rows.RAW, column) for column in wanted]
    if None in values:
        return ""
    return "raw veth: " + ", ".join(f"{value:.{digits}f}" for value in values)


def _streams(results: Results, streams: int) -> Panel:
    wanted = [columns.rate(way, streams) for way in WAYS]
    return Panel(
        title="TCP, one stream" if streams == 1 else f"TCP, {streams} streams",
        unit="Gbit/s",
        series=WAYS,
        bars=_bars(results, [(column, None) for column in wanted]),
        best="high",
        raw=_raw(results, wanted, 1),
    )


def _cpu(results: Results) -> Panel:
    bars: dict[str, tuple[Bar, ...]] = {}
    for row, found in _bars(results, [(columns.cpu("gateway", UP), None)]).items():
        both = [
            [value for way in WAYS if (value := results.median(row, columns.cpu(end, way))) is not None]
            for end in ("gateway", "client")
        ]
        gateway, client = (statistics.mean(values) if values else None for values in both)
        bars[row] = (Bar(gateway, found[0].floor, found[0].goal), Bar(client))
    return Panel(
        title="CPU time of each end, mean of both directions",
        unit="CPU seconds per 10⁹ bytes",
        series=("gateway", "client"),
        bars=bars,
        best="low",
    )


def _datagrams(results: Results) -> Panel:
    return Panel(
        title="64-byte datagrams without loss",
        unit="thousand a second",
        series=("up",),
        bars=_bars(results, [(DATAGRAMS, None)]),
        best="high",
        raw=_raw(results, [DATAGRAMS], 0),
    )


def _ping(results: Results) -> Panel:
    wanted = [(columns.ping(state, "median"), columns.ping(state, "p99")) for state in (IDLE, LOADED)]
    return Panel(
        title="Round trip, idle and with both directions loaded",
        unit="milliseconds",
        series=("idle", "loaded"),
        bars=_bars(results, wanted),
        best="low",
        raw=_raw(results, [column for column, _ in wanted], 3),
        dots="99th percentile",
        log=True,
    )


def _memory(results: Results) -> Panel:
    ends = ("gateway", "client")
    return Panel(
        title="Memory after the transfers, one client",
        unit="MiB (proportional set size)",
        series=ends,
        bars=_bars(results, [(columns.memory(end, "PSS"), None) for end in ends]),
        best="low",
        log=True,
    )


def _bad_path(results: Results) -> Panel:
    wanted = [(columns.rate(way, 1, bad=True), columns.rate(way, 4, bad=True)) for way in (UP, DOWN)]
    return Panel(
        title="TCP with 20 ms and 0.1 % loss, one stream",
        unit="Gbit/s",
        series=WAYS,
        bars=_bars(results, wanted),
        best="high",
        raw=_raw(results, [one for one, _ in wanted], 2),
        dots="4 streams",
    )


def _times(results: Results) -> Panel:
    wanted = [(columns.CONNECT, None), (columns.AFTER_CUT, None), (columns.AFTER_ROAMING, None)]
    return Panel(
        title="Time to the first answer",
        unit="seconds",
        series=("connect", "after a cut", "new address"),
        bars=_bars(results, wanted),
        best="low",
        log=True,
    )
