"""Plays the client service for the network: `python -m tests.e2e.client_linux.agent STATE_DIR`.

Reads commands, a line each, `COMMAND JSON`: apply {configuration}, dns, verify, remove, close-tun, path ADDRESS, watch,
in-tun. Answers each with a line of JSON. in-tun: the destinations of the packets that went into the TUN since the
last time, multicast left out. `--reset STATE_DIR` does what `lockgate client reset` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Interface, ip_address, ip_network
from pathlib import Path
from typing import Any

from lockgate.client.linux import dns, monitor, network
from lockgate.client.linux.facts import read_facts
from lockgate.client.linux.journal import Journal
from lockgate.client.linux.reset import DNS_KEY, reset
from lockgate.client.linux.tun import Tun, open_tun
from lockgate.client.plan import NetworkPlan, Peer, make_plan
from lockgate.model.problem import ProblemError
from lockgate.protocol.pulse.config import TunnelConfig
from tests.lab.topology import GATEWAY4, GATEWAY6

PEERS = tuple(
    Peer(ip_address(address), port, protocol)  # type: ignore[arg-type]
    for address in (GATEWAY4, GATEWAY6)
    for port, protocol in ((443, "tcp"), (4500, "udp"))
)


def configuration(told: dict[str, Any]) -> TunnelConfig:
    nets = {name: tuple(map(ip_network, told.pop(name, ()))) for name in ("include", "exclude")}
    four, six = told.pop("address4", "10.88.0.10"), told.pop("address6", "fd88::10/128")
    return TunnelConfig(
        mtu=1400,
        address4=IPv4Address(four) if four else None,
        address6=IPv6Interface(six) if six else None,
        dns=tuple(map(ip_address, told.pop("dns", ()))),
        **nets,
        **told,
    )


class Agent:
    def __init__(self, state: Path) -> None:
        self.journal = Journal(state)
        self.tun: Tun | None = None
        self.plan: NetworkPlan | None = None

    async def do(self, command: str, argument: Any) -> Any:
        match command:
            case "apply":
                self.tun = self.tun or open_tun()
                config = configuration(argument)
                self.plan = make_plan(config, await read_facts(self.tun.name, self.tun.index, PEERS))
                await network.apply(self.plan, self.journal)
                return self.tun.name
            case "verify":
                assert self.plan is not None
                return sorted({finding.code for finding in await monitor.verify(self.plan)})
            case "dns":
                assert self.plan is not None
                assert self.plan.dns is not None
                driver = await dns.choose_driver()
                self.journal.put(DNS_KEY, await driver.saved(self.plan.dns))
                await driver.apply(self.plan.dns)
                return driver.name
            case "remove":
                return await network.remove(self.journal)
            case "close-tun":
                assert self.tun is not None
                self.tun.close()
                return True
            case "path":
                found = await monitor.current_path(ip_address(argument))
                return found and [found.interface, str(found.source), str(found.next_hop)]
            case "in-tun":
                assert self.tun is not None
                return sorted(_drain(self.tun.fd))
            case "watch":
                async with monitor.NetworkMonitor() as news:
                    print(json.dumps({"answer": "watching"}), flush=True)
                    async with asyncio.timeout(30):
                        return sorted((await anext(news)).kinds)
        raise ValueError(command)


def _drain(tun: int) -> Iterator[str]:
    with contextlib.suppress(BlockingIOError):
        while True:
            packet = os.read(tun, 65600)[10:]  # behind the virtio-net header
            to = ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])
            if not to.is_multicast:
                yield str(to)


async def main(state: Path) -> None:
    agent = Agent(state)
    print(json.dumps({"answer": "ready"}), flush=True)
    number = 0
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        number += 1
        command, _, argument = line.partition(" ")
        try:
            result = await agent.do(command, json.loads(argument or "null"))
        except ProblemError as error:
            result = {"problem": error.problem.code}
        print(json.dumps({"answer": number, "result": result}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--reset":
        print(json.dumps(reset(Path(sys.argv[2]))))
    else:
        asyncio.run(main(Path(sys.argv[1])))
