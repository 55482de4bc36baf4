"""Echo requests from client to intranet: how long answers take, and when they come again."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab import Host, LabError, Program, wait_for
from tests.lab.topology import INTRANET4

_ANSWER = re.compile(r"^\[([0-9.]+)\] \d+ bytes from .* time=([0-9.]+) ms", re.MULTILINE)
INTERVAL = 0.01
"""Seconds between the echo requests of a watch."""
_LONGEST = 300
"""Seconds after which a forgotten ping ends by itself."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Round trips in milliseconds."""

    median: float
    p99: float


def summary(output: str, sent: int) -> Latency:
    """Of what `ping -D` printed. raises: LabError when fewer than half of the requests were answered."""
    times = sorted(float(milliseconds) for _, milliseconds in _ANSWER.findall(output))
    if len(times) * 2 < sent:
        raise LabError(f"ping: {len(times)} of {sent} answered\n{output[-500:]}")
    nearest = math.ceil(len(times) * 0.99) - 1
    return Latency(statistics.median(times), times[nearest])


def measure(client: Host, count: int, interval: float) -> Latency:
    """So many echo requests, one every `interval` seconds."""
    command = ["ping", "-n", "-D", "-i", f"{interval:g}", "-c", str(count), "-W", "1", INTRANET4]
    done = client.run(command, deadline=count * interval + 20, check=False)
    return summary(done.stdout, count)


class Watch:
    """Echo requests a hundred times a second, until the end of the block; `begun`: time of day it started."""

    def __init__(self, program: Program) -> None:
        self._program, self.begun = program, time.time()

    def first_after(self, moment: float, *, deadline: float = 30.0) -> float:
        """Seconds from a time of day to the first answer that came later. raises: LabError when none comes."""
        return wait_for(
            lambda: next((late for at in self.answers() if (late := at - moment) > 0), None),
            "an answer from the intranet",
            deadline=deadline,
            every=0.01,
            explain=lambda: self._program.tail(5),
        )

    def answers(self) -> list[float]:
        """Times of day at which answers came."""
        return [float(at) for at, _ in _ANSWER.findall(self._program.log())]


@contextmanager
def watch(client: Host) -> Iterator[Watch]:
    # -D prints the time of day in front of every answer. No -w: with it the first refusal of a router ends ping.
    count = round(_LONGEST / INTERVAL)
    # Line by line: else its first line comes with the first answer of a router, and those are rationed.
    ping = client.start(
        ["stdbuf", "-oL", "ping", "-n", "-D", "-i", f"{INTERVAL:g}", "-c", str(count), INTRANET4], "ping"
    )
    try:
        wait_for(lambda: "PING" in ping.log(), "ping runs", every=0.01, explain=lambda: ping.tail(5))
        yield Watch(ping)
    finally:
        ping.stop()
