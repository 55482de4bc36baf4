"""What the gateway is doing now, and did in the past: figures, graphs, and the same numbers as a table and a file."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from lockgate.server.sampling import FIGURES, RANGES
from lockgate.server.web.console.ask import Ask, file
from lockgate.server.web.console.rest import rest
from lockgate.server.web.forms.when import iso

MOST_POINTS = 400  # of one graph; more than that are averaged

RANGE_NAMES = {"hour": "1 hour", "day": "1 day", "week": "1 week", "month": "1 month", "year": "1 year"}


@dataclass(frozen=True, slots=True)
class Graph:
    """Lines over time. unit: what the numbers mean; scale: what they are divided by to be in it.

    lines: name, figure of the samples.
    """

    id: str
    title: str
    unit: str
    scale: float
    least: float  # the axis reaches at least that far
    lines: tuple[tuple[str, str], ...]


GRAPHS = (
    Graph("users", "Concurrent users", "", 1, 4, (("Users", "users"), ("Browsers", "web"))),
    Graph(
        "ssl",
        "Concurrent SSL connections",
        "",
        1,
        4,
        (("Connections", "ssl_connections"), ("ESP tunnels", "tunnels_esp"), ("TLS tunnels", "tunnels_tls")),
    ),
    Graph(
        "throughput",
        "Throughput (Mbit/s)",
        "Mbit/s",
        1e6,
        1e6,
        (("From clients", "in_bps"), ("To clients", "out_bps")),
    ),
    Graph(
        "cpu",
        "Processor (share of one, %)",
        "%",
        0.01,
        0.1,
        (("Packets (edge)", "cpu_edge"), ("Control plane", "cpu_control")),
    ),
    Graph(
        "memory",
        "Memory (MiB)",
        "MiB",
        1 << 20,
        1 << 26,
        (("Packets (edge)", "memory_edge"), ("Control plane", "memory_control")),
    ),
)


def _range(ask: Ask) -> str:
    chosen = ask.query("range", "hour")
    return chosen if chosen in RANGES else "hour"


def thinned(samples: list[dict[str, Any]], most: int = MOST_POINTS) -> list[dict[str, Any]]:
    """At most `most` samples: neighbours are averaged."""
    if len(samples) <= most:
        return samples
    width = -(-len(samples) // most)
    result = []
    for at in range(0, len(samples), width):
        group = samples[at : at + width]
        keys = group[0]["values"].keys()
        values = {key: sum(each["values"].get(key, 0.0) for each in group) / len(group) for key in keys}
        result.append({"time": group[0]["time"], "values": values})
    return result


async def show(ask: Ask) -> Response:
    """GET: figures now, and graphs of one range. Somebody without the right to see them gets the page without."""
    if not ask.principal.may("system"):
        return await ask.page("overview.html", "overview", status_now=None)
    chosen = _range(ask)
    now = await rest(ask, "GET", "status")
    found = await rest(ask, "GET", "samples", query={"range": chosen})
    samples = thinned(found["samples"])
    newest = found["samples"][-1]["values"] if found["samples"] else {}
    return await ask.page(
        "overview.html",
        "overview",
        status_now=now,
        newest=newest,
        graphs=GRAPHS,
        samples=list(reversed(samples)),
        range=chosen,
        ranges=RANGE_NAMES,
        dropped=sum(now["counters"].values()),
    )


async def export(ask: Ask) -> Response:
    """GET: every sample of the range as CSV."""
    chosen = _range(ask)
    found = await rest(ask, "GET", "samples", query={"range": chosen})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["time", *FIGURES])
    for each in found["samples"]:
        writer.writerow([iso(each["time"]), *(each["values"].get(name, "") for name in FIGURES)])
    return file(text.getvalue().encode(), f"lockgate-{chosen}.csv", "text/csv")
