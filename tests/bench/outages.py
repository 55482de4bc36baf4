"""How long a way takes to carry packets again after something happened to the network.

Nothing is told finer than the time between two echo requests.
"""

from __future__ import annotations

import time

from tests.bench.latency import INTERVAL, watch
from tests.bench.way import Way
from tests.lab import Lab, LabError, wait_for


def after_cut(lab: Lab, seconds: float) -> float:
    """The network is away for so long; seconds from its return to the first answer."""
    with watch(lab.client) as echo:
        echo.first_after(echo.begun)
        try:
            lab.impair.cut()
            time.sleep(seconds)  # the length of the outage is the matter here
        finally:
            lab.impair.restore()
        return max(INTERVAL, echo.first_after(time.time(), deadline=60))


def after_roaming(lab: Lab) -> list[float]:
    """The client goes to another network, and back; seconds from each new address to the first answer."""
    with watch(lab.client) as echo:
        echo.first_after(echo.begun)
        found = []
        for _ in range(2):
            lab.impair.roam()
            found.append(max(INTERVAL, echo.first_after(time.time(), deadline=60)))
        return found


def fallback_and_return(lab: Lab, way: Way) -> tuple[float, float]:
    """UDP is blocked: seconds to the next answer; then no longer: seconds until ESP carries again."""
    if way.transport is None:
        raise LabError("no transport to fall back from")
    transport = way.transport
    with watch(lab.client) as echo:
        echo.first_after(echo.begun)
        try:
            lab.impair.block_udp()
            # An answer that was under way already does not count.
            blocked = time.time() + 0.1
            fallback = 0.1 + echo.first_after(blocked, deadline=60)
            wait_for(lambda: transport() == "tls", "the client says that TLS carries", deadline=30)
        finally:
            lab.impair.unblock_udp()
        unblocked = time.time()
        wait_for(lambda: transport() == "esp", "the client is back on ESP", deadline=120, every=0.02)
        return fallback, time.time() - unblocked
