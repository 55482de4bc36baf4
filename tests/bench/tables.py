"""Results as tables: for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import columns, rows, targets
from tests.bench.columns import DATAGRAMS, IDLE, LOADED, WAYS
from tests.bench.measure import STREAMS
from tests.bench.results import Results
from tests.bench.rows import ORDER, RAW, SAME_CLIENT, WIREGUARD
from tests.bench.signins import CHEAP, MEMORY, REAL, RESUME, RESUME_ALONE

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Table = list[list[str]]


def all_of(results: Results) -> list[Table]:
    """Every table that has a line."""
    makers: tuple[Callable[[Results], Table], ...] = (
        speed,
        bad_path,
        cost,
        latency,
        times,
        same_client,
        sign_ins,
        memory,
        verdicts,
    )
    return [table for table in (make(results) for make in makers) if len(table) > 1]


def speed(results: Results) -> Table:
    head = ["TCP, Gbit/s", "1 stream up", "down", "4 streams up", "down", "of raw up", "down"]
    table = [[*head, "× wireguard-go up", "down"]]
    for row in _measured(results):
        line = [row, *_rates(results, row)]
        one = [columns.rate(way, 1) for way in WAYS]
        line += [_percent(None if row == RAW else results.ratio(row, RAW, column)) for column in one]
        itself = row in (RAW, WIREGUARD)
        line += [number(None if itself else results.ratio(row, WIREGUARD, column), 2) for column in one]
        table.append(line)
    return table


def bad_path(results: Results) -> Table:
    table = [["TCP with 20 ms and 0.1 % loss, Gbit/s", "1 stream up", "down", "4 streams up", "down"]]
    for row in _measured(results):
        line = _rates(results, row, bad=True)
        if any(line):
            table.append([row, *line])
    return table


def _rates(results: Results, row: str, *, bad: bool = False) -> list[str]:
    wanted = [columns.rate(way, streams, bad=bad) for streams in STREAMS for way in WAYS]
    return [number(results.median(row, column), 3 if bad else 2) for column in wanted]


def cost(results: Results) -> Table:
    """CPU time and memory of all processes of an end."""
    head = ["CPU seconds per 10⁹ bytes; MiB", "gateway up", "down", "client up", "down"]
    table = [[*head, "gateway RSS", "PSS", "client RSS", "PSS"]]
    for row in _measured(results):
        if row == RAW:
            continue
        line = [row]
        line += [
            number(results.median(row, columns.cpu(end, way)), 2)
            for end in ("gateway", "client")
            for way in WAYS
        ]
        line += [
            number(results.median(row, columns.memory(end, kind)), 1)
            for end in ("gateway", "client")
            for kind in ("RSS", "PSS")
        ]
        table.append(line)
    return table


def latency(results: Results) -> Table:
    head = ["Small packets", "64 B datagrams, kpps", "ping idle, median ms", "p99", "under load, median ms"]
    wanted = [DATAGRAMS, *(columns.ping(state, share) for state in (IDLE, LOADED) for share in _SHARES)]
    return _simple(results, [*head, "p99"], list(zip(wanted, (1, 3, 3, 2, 2), strict=True)))


_SHARES = ("median", "p99")


def times(results: Results) -> Table:
    head = ["Seconds to the first answer", "connect", "after a cut of 3 s", "after a new address"]
    wanted = [columns.CONNECT, columns.AFTER_CUT, columns.AFTER_ROAMING, columns.FALLBACK, columns.RETURN]
    digits = (3, 2, 2, 1, 1)
    return _simple(
        results, [*head, "UDP blocked: over TLS", "again: ESP"], list(zip(wanted, digits, strict=True))
    )


def _simple(results: Results, head: list[str], wanted: Sequence[tuple[str, int]]) -> Table:
    """A line for each peer that has one of the columns."""
    table = [head]
    for row in _measured(results):
        line = [number(results.median(row, column), digits) for column, digits in wanted]
        if any(line):
            table.append([row, *line])
    return table


def same_client(results: Results) -> Table:
    """Our gateway against ocserv, both with openconnect."""
    table = [["openconnect at our gateway", "× ocserv's rate up", "down", "of ocserv's CPU up", "down"]]
    for row, other in SAME_CLIENT.items():
        line = [number(results.ratio(row, other, columns.rate(way, 1)), 2) for way in WAYS]
        line += [_percent(results.ratio(row, other, columns.cpu("gateway", way))) for way in WAYS]
        if any(line):
            table.append([row, *line])
    return table


def _measured(results: Results) -> list[str]:
    return [row for row in ORDER if row in results.samples]


def sign_ins(results: Results) -> Table:
    table = [["16 at a time", "per s", "edge CPU ms", "control CPU ms", "hash CPU ms", "CPU ms less hash"]]
    table[0] += ["p50 ms", "p99 ms"]
    for row in (REAL.row, CHEAP.row, RESUME, RESUME_ALONE):
        if row not in results.samples:
            continue
        edge, control = results.median(row, "edge CPU ms"), results.median(row, "control CPU ms")
        hashing = results.median(row, "hash CPU ms")
        rest = None if edge is None or control is None else edge + control - (hashing or 0.0)
        line = [row, number(results.median(row, "per s"), 1)]
        line += [number(value, 2) for value in (edge, control, hashing, rest)]
        line += [number(results.median(row, column), 1) for column in ("p50 ms", "p99 ms")]
        table.append(line)
    return table


def memory(results: Results) -> Table:
    sessions = results.median(MEMORY, "sessions")
    table = [["process", "MiB before", f"MiB with {sessions or 0:.0f} idle sessions", "KiB a session"]]
    for name in ("edge", "control") if sessions else ():
        wanted = (f"{name} MiB before", f"{name} MiB", f"{name} KiB/session")
        table.append([name, *(number(results.median(MEMORY, column), 1) for column in wanted)])
    return table


def verdicts(results: Results) -> Table:
    """What was to be reached, and by how much it was reached or missed."""
    table = [["Target", "measured", "floor", "reached", "goal", "reached"]]
    for target in targets.TARGETS:
        value = target.figure.of(results)
        line = [target.area, number(value, 3)]
        for bounds, instead in ((target.floor, ()), (target.goal, target.instead)):
            found = targets.judge(results, target, bounds, instead)
            limits = "; ".join(f"{_sign(target)} {_limit(verdict)}" for verdict in found)
            line += [limits, "; ".join(_verdict(verdict) for verdict in found)]
        if value is not None:
            table.append(line)
    return table


def not_judged(results: Results) -> list[str]:
    """What this run says nothing about: targets, and floors whose peer it lacks."""
    missing = [target.area for target in targets.TARGETS if target.figure.of(results) is None]
    found = [f"targets that were not measured: {'; '.join(missing)}"] if missing else []
    for target in targets.TARGETS:
        if target.area not in missing:
            found += [
                f"{target.area}: floor {bound} not judged, that peer was not measured"
                for bound in target.floor
                if bound.value(results, target.figure.column) is None
            ]
    return found


def _sign(target: targets.Target) -> str:
    return "≤" if target.most else "≥"


def _limit(verdict: targets.Verdict) -> str:
    if verdict.bound.beside is None:
        return f"{verdict.limit:g}"
    return f"{verdict.bound.factor:g} × {_short(verdict.bound.beside)} = {verdict.limit:.2f}"


def _short(row: str) -> str:
    known = {
        rows.WIREGUARD: "wireguard-go",
        rows.OPENVPN: "openvpn",
        rows.OCSERV_DTLS: "ocserv DTLS",
        rows.OCSERV_TLS: "ocserv TLS",
        rows.PROTOTYPE_GCM: "prototype",
        rows.PROTOTYPE_CBC: "prototype",
    }
    return known.get(row, row)


def _verdict(verdict: targets.Verdict) -> str:
    return f"{'yes' if verdict.reached else 'NO'}, {verdict.margin * 100:+.0f} %"


def plain(table: Table) -> str:
    """Columns aligned for a terminal."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for line in table:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def markdown(table: Table) -> str:
    head, *rest = table
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rest))


def write_into(page: Path, text: str) -> None:
    """Replace what stands between the page's two markers; a new page gets a heading and the markers."""
    old = page.read_text() if page.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the markers {BEGIN} and {END} are missing")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value * 100:.1f} %"
