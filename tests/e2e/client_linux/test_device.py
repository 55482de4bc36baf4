"""The TUN device where the kernel does not give one, and many times in a row."""

from __future__ import annotations

import pytest

from tests.e2e.client_linux.place import Place
from tests.lab.host import Host

OPEN = """\
from lockgate.client.linux.tun import open_tun
from lockgate.model.problem import ProblemError
import sys
try: print(open_tun(*sys.argv[1:]).name)
except ProblemError as error: print(error.problem.code)
"""


def opened(host: Host, *name: str, under: tuple[str, ...] = ()) -> str:
    return host.run([*under, *host.python("x")[:1], "-c", OPEN, *name]).stdout.strip()


def test_the_device_is_refused_missing_or_taken(place: Place) -> None:
    host = place.host
    assert opened(host) == "lockgate0"
    without_rights = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    assert opened(host, under=without_rights) == "tun-refused"
    assert opened(host, "lo") == "tun-failed"
    host.run(["mount", "-t", "tmpfs", "none", "/dev/net"])
    try:
        assert opened(host) == "tun-missing"
    finally:
        host.run(["umount", "/dev/net"])


CYCLES = """\
import asyncio, os, sys
from pathlib import Path
from lockgate.client.linux import network
from tests.e2e.client_linux.agent import Agent

async def main(state, count):
    agent = Agent(Path(state))
    for number in range(count):
        await agent.do("apply", {"include": ["10.77.0.0/16", "fd77::/64"], "exclude": ["10.77.5.0/24"]})
        await agent.do("remove", None)
        await agent.do("close-tun", None)
        agent.tun = None
        if number in (4, count - 1):
            print(len(os.listdir("/proc/self/fd")))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize("count", [60])
def test_cycles_leave_nothing_open(place: Place, count: int) -> None:
    """That routes, rules and addresses are as before is checked at the end of every test."""
    python = place.host.python("x")[:1]
    output = place.host.run([*python, "-c", CYCLES, f"{place.state}-cycles", str(count)], deadline=150).stdout
    early, late = output.split()
    assert early == late
