"""TCP between client and intranet, by iperf3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.columns import DOWN
from tests.lab import Host, LabError, Program
from tests.lab.topology import INTRANET4

_PORT = 5201


@dataclass(frozen=True, slots=True)
class Transfer:
    """What arrived: bytes, and bits per second over the time it took."""

    received: int
    gbit: float  # 10^9 bits per second


def parse(output: str, errors: str = "") -> Transfer:
    """The report of `iperf3 --json`. raises: LabError when there is none, or it tells of an error."""
    try:
        result = json.loads(output)
    except ValueError:
        raise LabError(f"iperf3: no result\n{output}{errors}") from None
    if "error" in result:
        raise LabError(f"iperf3: {result['error']}")
    received = result["end"]["sum_received"]
    if not received["bytes"]:
        raise LabError("iperf3: nothing arrived")
    return Transfer(int(received["bytes"]), received["bits_per_second"] / 1e9)


def transfer(client: Host, intranet: Host, direction: str, seconds: int, streams: int = 1) -> Transfer:
    """So many TCP streams at once for so many seconds."""
    options = ["--json", "--parallel", str(streams), *(["--reverse"] if direction == DOWN else [])]
    with _server(intranet):
        done = client.run(_client(seconds, *options), deadline=seconds + 20, check=False)
    return parse(done.stdout, done.stderr)


@contextmanager
def both_ways(client: Host, intranet: Host, seconds: int) -> Iterator[None]:
    """A TCP stream each way, running when this begins; it lasts so many seconds unless the block ends earlier."""
    with _server(intranet) as server:
        load = client.start(_client(seconds, "--bidir", "--forceflush"), "iperf3-both")
        try:
            server.wait_log("Accepted connection")
            load.wait_log(r"\[TX-C\].*bits/sec")
            yield
        finally:
            load.stop()


@contextmanager
def _server(intranet: Host) -> Iterator[Program]:
    # A server for each: one that has not noticed the end of a stream refuses the next.
    command = ["iperf3", "--server", "--one-off", "--forceflush", "--port", str(_PORT)]
    server = intranet.start(command, "iperf3")
    try:
        server.wait_log("Server listening")
        yield server
    finally:
        server.stop()


def _client(seconds: int, *options: str) -> list[str]:
    command = ["iperf3", "--client", INTRANET4, "--port", str(_PORT), "--time", str(seconds)]
    return [*command, "--connect-timeout", "5000", *options]


def interface_bytes(host: Host, interface: str) -> int:
    """Bytes an interface has carried in both directions."""
    link = host.ip_json("-statistics", "link", "show", "dev", interface)[0]["stats64"]
    return int(link["rx"]["bytes"]) + int(link["tx"]["bytes"])
