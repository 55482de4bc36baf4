"""How many small datagrams a second pass from client to intranet without loss."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import Host, LabError
from tests.lab.topology import INTRANET4

SIZE = 64
"""Bytes of UDP payload."""
TOLERATED = 1e-4
"""Share that may be lost: the machine's own hiccups cost one now and then, whoever carries them."""

_LOWEST, _HIGHEST = 500.0, 2e6
_REACHED = 0.9
"""Below this share of the rate asked for, the sender is what limits."""

_ports = itertools.count(20_000)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one attempt. rate: datagrams a second as they were really sent."""

    rate: float
    lost: float  # share

    @property
    def passed(self) -> bool:
        return self.lost <= TOLERATED


def search(attempt: Callable[[float], Trial], start: float, steps: int) -> float | None:
    """The highest rate found that passes, in datagrams a second; None when not even the lowest does.

    Doubles or halves from `start` to find a rate that passes and one that does not, then bisects `steps` times.
    A rate is given up only when it fails twice.
    """

    def again(rate: float) -> Trial:
        first = attempt(rate)
        return first if first.passed else attempt(rate)

    rate, low, high = start, None, None
    while low is None or high is None:
        trial = again(rate)
        if not trial.passed:
            high, rate = rate, (rate / 2 if low is None else rate)
            if high <= _LOWEST:
                return None
        elif trial.rate < rate * _REACHED or rate >= _HIGHEST:
            return trial.rate
        else:
            low, rate = trial.rate, (rate * 2 if high is None else rate)
    for _ in range(steps):
        middle = float((low * high) ** 0.5)
        trial = again(middle)
        if trial.passed:
            low = max(low, trial.rate)
        else:
            high = middle
        if high <= low:
            break
    return low


class Sender:
    """Sends at a rate from client to intranet and counts there. tool: the program `lockgate-path`."""

    def __init__(self, client: Host, intranet: Host, tool: Path, seconds: float) -> None:
        self._client, self._intranet, self._tool, self._seconds = client, intranet, str(tool), seconds

    def attempt(self, rate: float) -> Trial:
        count = max(10, round(rate * self._seconds))
        # Another port each time: what is still under way from one trial is not counted in the next.
        at = f"{INTRANET4}:{next(_ports)}"
        counter = self._intranet.start([self._tool, "count", at, str(count)], "datagrams")
        try:
            counter.wait_log("^ready")
            line = [self._tool, "send", at, str(SIZE), str(round(rate)), str(count)]
            sent = json.loads(self._client.run(line, deadline=60).stdout)
            # Ends by itself some moments after the last datagram.
            counter.wait(deadline=30)
        finally:
            counter.stop()
        received = json.loads(counter.log().splitlines()[-1])["received"]
        return Trial(sent["sent"] / sent["seconds"], 1 - received / sent["sent"])


def measure(sender: Sender, start: float, steps: int) -> float:
    """Datagrams a second. start: where to begin the search. raises: LabError when nothing passes without loss."""
    found = search(sender.attempt, start, steps)
    if found is None:
        raise LabError("datagrams are lost at every rate")
    return found
