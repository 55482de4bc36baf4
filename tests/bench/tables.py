"""Results as tables: for the terminal and for the documentation."""

from __future__ import annotations

from pathlib import Path

from tests.bench.results import Results
from tests.bench.signins import CHEAP, MEMORY, REAL, RESUME
from tests.bench.traffic import DOWN, UP
from tests.bench.tunnels import ORDER, RAW, SAME_MODE

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Table = list[list[str]]

_WAYS = (UP, DOWN)


def speed(results: Results) -> Table:
    head = ["TCP, one stream", "Gbit/s up", "down", "of raw up", "down", "× ocserv up", "down", "connect s"]
    table = [head]
    for row in _measured(results):
        line = [row, *(_number(results.median(row, way), 2) for way in _WAYS)]
        line += [_percent(None if row == RAW else results.ratio(row, RAW, way)) for way in _WAYS]
        line += [_number(results.ratio(row, SAME_MODE.get(row, ""), way), 2) for way in _WAYS]
        table.append([*line, _number(results.median(row, "connect s"), 2)])
    return table


def cpu(results: Results) -> Table:
    """CPU time of the gateway's packet process; for ocserv, of all its processes."""
    head = ["CPU seconds per 10⁹ bytes", "edge up", "down", "of ocserv's up", "down", "control up", "down"]
    table = [head]
    for row in _measured(results):
        if row == RAW:
            continue
        line = [row]
        for column in ("edge", "control"):
            names = [f"{column} s/GB {way}" for way in _WAYS]
            line += [_number(results.median(row, name), 2) for name in names]
            if column == "edge":
                line += [_percent(results.ratio(row, SAME_MODE.get(row, ""), name)) for name in names]
        table.append(line)
    return table


def _measured(results: Results) -> list[str]:
    return [row for row in ORDER if row in results.samples]


def sign_ins(results: Results) -> Table:
    table = [["16 at a time", "per s", "edge CPU ms", "control CPU ms", "hash CPU ms", "CPU ms less hash"]]
    table[0] += ["p50 ms", "p99 ms"]
    for row in (REAL.row, CHEAP.row, RESUME):
        if row not in results.samples:
            continue
        edge, control = results.median(row, "edge CPU ms"), results.median(row, "control CPU ms")
        hashing = results.median(row, "hash CPU ms")
        rest = None if edge is None or control is None else edge + control - (hashing or 0.0)
        line = [row, _number(results.median(row, "per s"), 1)]
        line += [_number(value, 2) for value in (edge, control, hashing, rest)]
        line += [_number(results.median(row, column), 1) for column in ("p50 ms", "p99 ms")]
        table.append(line)
    return table


def memory(results: Results) -> Table:
    table = [["process", "MiB before", f"MiB with {MEMORY}", "KiB a session"]]
    for name in ("edge", "control"):
        columns = (f"{name} MiB before", f"{name} MiB", f"{name} KiB/session")
        table.append([name, *(_number(results.median(MEMORY, column), 1) for column in columns)])
    return table


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


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value * 100:.1f} %"
