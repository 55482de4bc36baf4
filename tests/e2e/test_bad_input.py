"""Strangers who send garbage, too much, too slowly or nothing: others notice nothing, and memory stays bounded."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, OpenConnect, wait_for
from tests.lab.probe import UDP, ip_packet, udp_datagram
from tests.lab.topology import GATEWAY4, INTRANET4
from tests.lab.transfer import download

GROWTH = 64 << 20
"""Bytes that a gateway process may grow by under any of this: generous, and far from unbounded."""


def _resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found.group(1)) * 1024


@pytest.fixture
def bystander(lab: Lab, connect: Connect, gateway: Gateway) -> OpenConnect:
    """Somebody's session, with traffic before, during and after."""
    client = connect(gateway, host=lab.guest).wait_configured().wait_esp()
    assert lab.guest.ping(INTRANET4)
    return client


def _unharmed(lab: Lab, gateway: Gateway, bystander: OpenConnect, processes: dict[str, int]) -> None:
    assert bystander.program.running
    assert lab.guest.ping(INTRANET4, count=5)
    download(lab.guest, lab.intranet, INTRANET4, 2_000_000)
    assert {name: gateway.pid(name) for name in processes} == processes, "a process of the gateway died"


@pytest.mark.parametrize(("kind", "count"), [("garbage", 300), ("http", 80)])
def test_nonsense(lab: Lab, gateway: Gateway, bystander: OpenConnect, kind: str, count: int) -> None:
    processes = {name: gateway.pid(name) for name in ("edge", "control")}
    before = {name: _resident(pid) for name, pid in processes.items()}
    command = lab.client.python("tests.lab.nuisance", kind, GATEWAY4, "443", str(count))
    lab.client.run(command, deadline=120)
    _unharmed(lab, gateway, bystander, processes)
    for name, pid in processes.items():
        assert _resident(pid) < before[name] + GROWTH


@pytest.mark.parametrize(("kind", "count"), [("silent", 10_000), ("slow", 500)])
def test_connections_that_never_finish(
    lab: Lab, connect: Connect, gateway: Gateway, bystander: OpenConnect, kind: str, count: int
) -> None:
    processes = {name: gateway.pid(name) for name in ("edge", "control")}
    before = {name: _resident(pid) for name, pid in processes.items()}
    crowd = lab.client.start(
        lab.client.python("tests.lab.nuisance", kind, GATEWAY4, "443", str(count)), kind, hold=True
    )
    crowd.wait_log("^done", deadline=120)
    _unharmed(lab, gateway, bystander, processes)
    # Somebody from elsewhere still gets in.
    connect(gateway, host=lab.guest).wait_configured()
    for name, pid in processes.items():
        assert _resident(pid) < before[name] + GROWTH
    crowd.stop()


def test_replayed_esp_is_dropped_and_counted(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    connect(gateway).wait_configured().wait_esp()
    capture = lab.internet.capture("to-client", "replay")
    assert lab.client.ping(INTRANET4, count=20)
    capture.stop()
    gateway_bytes = bytes(map(int, GATEWAY4.split(".")))
    # A capture on veth holds unfinished UDP sums; zero is "no sum" (RFC 768).
    recorded = [
        packet[:26] + b"\0\0" + packet[28:]
        for packet in lab.internet.packets("replay")
        if packet[9] == 17 and packet[16:20] == gateway_bytes and packet[22:24] == (4500).to_bytes(2, "big")
    ]
    assert len(recorded) >= 20
    before = gateway.status()["counters"]["replayed"]
    inside = lab.gateway.capture("inside", "replayed")
    random.Random(4500).shuffle(recorded)
    lab.internet.run(
        lab.internet.python("tests.lab.probe", "raw", *(packet.hex() for packet in recorded[:20] * 5))
    )
    wait_for(
        lambda: gateway.status()["counters"]["replayed"] >= before + 100, "replays are counted", deadline=30
    )
    inside.stop()
    assert not [packet for packet in lab.gateway.packets("replayed") if packet[9:10] == b"\x01"]
    assert lab.client.ping(INTRANET4, count=5)


def test_esp_from_nowhere(lab: Lab, gateway: Gateway, bystander: OpenConnect) -> None:
    processes = {name: gateway.pid(name) for name in ("edge", "control")}
    noise = random.Random(7)
    packets = [
        ip_packet(
            source,
            GATEWAY4,
            UDP,
            udp_datagram(source, GATEWAY4, 4500, noise.randbytes(noise.randrange(0, 1400))),
        )
        for source in (f"198.51.100.{noise.randrange(3, 250)}" for _ in range(200))
    ]
    for start in range(0, len(packets), 20):
        batch = [packet.hex() for packet in packets[start : start + 20]]
        lab.internet.run(lab.internet.python("tests.lab.probe", "raw", *batch))
    _unharmed(lab, gateway, bystander, processes)
    wait_for(
        lambda: gateway.status()["counters"]["unknown-spi"] > 0, "strange datagrams are counted", deadline=30
    )
