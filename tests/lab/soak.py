"""`python -m tests.lab.soak SECONDS`: traffic without end while everything around it goes wrong, one thing at a time.

Each round moves a file both ways through ESP and through TLS, then does the next disturbance of the list and
waits until packets pass again. At the end: sessions as they were, memory of the processes at start and end.
"""

from __future__ import annotations

import itertools
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab import intranet
from tests.lab.gateway import PASSWORD, Gateway
from tests.lab.host import Host
from tests.lab.openconnect import OpenConnect
from tests.lab.topology import INTRANET4, INTRANET6, Lab
from tests.lab.transfer import download, upload
from tests.lab.waiting import wait_for

SIZE = 20_000_000


def _memory(gateway: Gateway) -> dict[str, int]:
    """Resident memory of edge and control plane, in MB."""
    found = {}
    for name in ("edge", "control"):
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{gateway.pid(name)}/status").read_text())
        found[name] = int(match.group(1)) // 1000 if match else 0
    return found


def _passes(host: Host) -> bool:
    return host.ping(INTRANET4) and host.ping(INTRANET6)


def run(lab: Lab, seconds: float) -> None:
    intranet.serve(lab.intranet, SIZE)
    gateway = Gateway(lab.gateway).initialise()
    for user in ("esp", "tls"):
        gateway.add_user(user)
    gateway.set_config("esp", "rekey_seconds", "60")
    gateway.start()
    fast = (
        OpenConnect(lab.client, user="esp", password=PASSWORD, trust=gateway.trust)
        .wait_configured()
        .wait_esp()
    )
    slow = OpenConnect(
        lab.guest, user="tls", password=PASSWORD, trust=gateway.trust, options=["--no-dtls"]
    ).wait_configured()
    before = fast.addresses() + slow.addresses()
    start_memory = _memory(gateway)

    def roam() -> None:
        lab.impair.roam()
        fast.send(signal.SIGUSR2)

    disturbances: list[tuple[str, Callable[[], object]]] = [
        ("nothing", lambda: None),
        ("control plane killed", lambda: gateway.wait_successor("control", gateway.kill("control"))),
        ("client roams", roam),
        ("loss of 2 %", lambda: lab.impair.lose(2)),
        ("loss ends", lambda: lab.impair.lose(0)),
        ("client reconnects", lambda: slow.send(signal.SIGUSR2)),
        ("edge killed", lambda: gateway.wait_successor("edge", gateway.kill("edge"))),
    ]
    end = time.monotonic() + seconds
    for number, (name, disturb) in enumerate(itertools.cycle(disturbances), 1):
        if time.monotonic() >= end:
            break
        disturb()
        for client in (fast, slow):
            wait_for(
                lambda client=client: _passes(client.host),
                f"packets of {client.user} pass after: {name}",
                deadline=120,
                explain=client.program.tail,
            )
            download(client.host, lab.intranet, INTRANET4, SIZE, deadline=120)
            upload(client.host, lab.intranet, INTRANET6, SIZE, deadline=120)
        print(f"round {number}: {name}: ok; memory in MB: {_memory(gateway)}", flush=True)
    assert fast.addresses() + slow.addresses() == before
    print(f"soak: no fault; memory in MB at the start {start_memory}, at the end {_memory(gateway)}")


if __name__ == "__main__":
    with Lab() as lab:
        run(lab, float(sys.argv[1]))
