"""One TCP stream between client and intranet, and the time to a tunnel's first answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab import Host, LabError, wait_for
from tests.lab.topology import INTRANET4

UP, DOWN = "up", "down"
"""Client to intranet, intranet to client."""

_PORT = 5201


@dataclass(frozen=True, slots=True)
class Transfer:
    """What arrived: bytes, and bits per second over the time it took."""

    received: int
    gbit: float  # 10^9 bits per second


def transfer(client: Host, intranet: Host, direction: str, seconds: int) -> Transfer:
    """One TCP stream for so many seconds."""
    # A server for each: one that has not noticed the end of a stream refuses the next.
    server = intranet.start(
        ["iperf3", "--server", "--one-off", "--forceflush", "--port", str(_PORT)], "iperf3"
    )
    try:
        server.wait_log("Server listening")
        command = ["iperf3", "--client", INTRANET4, "--port", str(_PORT), "--time", str(seconds), "--json"]
        command += ["--connect-timeout", "5000", *(["--reverse"] if direction == DOWN else [])]
        done = client.run(command, deadline=seconds + 20, check=False)
    finally:
        server.stop()
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise LabError(f"iperf3: no result\n{done.stdout}{done.stderr}") from None
    if "error" in result:
        raise LabError(f"iperf3: {result['error']}")
    received = result["end"]["sum_received"]
    return Transfer(received["bytes"], received["bits_per_second"] / 1e9)


def interface_bytes(host: Host, interface: str) -> int:
    """Bytes an interface has carried in both directions."""
    link = host.ip_json("-statistics", "link", "show", "dev", interface)[0]["stats64"]
    return int(link["rx"]["bytes"]) + int(link["tx"]["bytes"])


@contextmanager
def first_reply(client: Host) -> Iterator[Callable[[], float]]:
    """Echo requests from now on; the function waits for the intranet's first answer: seconds since the start."""
    # -D prints the time of day in front of every answer. No -w: with it the first refusal of a router ends ping.
    ping = client.start(["ping", "-n", "-D", "-i", "0.01", "-c", "4000", INTRANET4], "ping")
    try:
        wait_for(lambda: "PING" in ping.log(), "ping runs")
        begun = time.time()

        def seconds() -> float:
            return float(ping.wait_log(r"^\[([0-9.]+)\] \d+ bytes from ", deadline=30).group(1)) - begun

        yield seconds
    finally:
        ping.stop()
