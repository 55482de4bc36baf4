"""Every script of the rogue gateway against the real client: it keeps its head, and gives everything back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, wait_for
from tests.lab.authority import Authority
from tests.lab.front import Front
from tests.lab.own_client import OwnClient
from tests.lab.rogue_scripts import SCRIPTS
from tests.lab.topology import GATEWAY4, GATEWAY_NAME

FIRST_PORT = 20000
PORTS = {name: FIRST_PORT + number for number, name in enumerate(SCRIPTS)}
PATIENCE = 2.0
"""Seconds after which a gateway that says nothing is left; the client itself waits for ten times as long."""

# Configurations that no gateway may give, and the client's word for each.
REFUSED = {
    "mtu-0": "server-broke-protocol",
    "mtu-1": "mtu-absurd",
    "mtu-500": "mtu-absurd",
    "mtu-65535": "server-broke-protocol",
    "mtu-4294967295": "server-broke-protocol",
    "inner-server": "gateway-inside-tunnel",
    "inner-loopback": "inner-address-absurd",
    "inner-multicast": "inner-address-absurd",
    "inner-zero": "inner-address-absurd",
}
# What a client can live with: odd, but nothing that a packet could suffer from.
HARMLESS = {
    *(f"twice-{step}" for step in ("success", "keys", "end")),
    *(name for name in SCRIPTS if name.startswith(("mtu-", "routes-", "inner-", "dns-", "domains-"))),
    *("swallow", "data-flood", "unknown-flood", "rekey-flood", "garbage-tunnel", "other-certificate"),
} - REFUSED.keys()


class Rogues:
    """All scripts, each at its port; and a client that meets them one after the other."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.authority = Authority(directory / "rogues")
        issued = self.authority.issue(GATEWAY_NAME)
        files = ["--cert", str(issued.certificate), "--key", str(issued.key)]
        line = lab.gateway.python(
            "tests.lab.rogues", "--listen", f"{GATEWAY4}:{FIRST_PORT}", *files, *SCRIPTS
        )
        self.program = lab.gateway.start(line, "rogues")
        self.program.wait_log("^ready$")
        self.client = OwnClient(lab.client).start()
        self.edge = self.client.edges()
        self.network = self._network()
        self.pids = [int(self.client.ask("hello")["pid"]), *self.edge]

    def url(self, script: str) -> str:
        return f"https://{GATEWAY_NAME}:{PORTS[script]}/"

    def meet(self, script: str) -> Front:
        front = Front(self.client)
        return front.connect(self.url(script), ca=self.authority.ca_file, user="alice")

    def descriptors(self) -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids]

    def leave(self) -> None:
        """Ends what is there; checks that nothing of it is left."""
        for connection in self.client.connections():
            self.client.ask("disconnect", connection=connection["connection"])
        assert self.client.connections() == []
        assert self._network() == self.network
        assert self.client.edges() == self.edge
        for mistake in ("Traceback", "internal-error"):
            assert mistake not in self.client.log() + self.client.debug_log()

    def _network(self) -> str:
        show = "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip -br link; nft list tables"
        return self.lab.client.run(["sh", "-c", f"{show}; cat /etc/resolv.conf"]).stdout


@pytest.fixture(scope="module")
def rogues(lab: Lab) -> Iterator[Rogues]:
    rogues = Rogues(lab, lab.gateway.directory)
    with rogues.meet("swallow") as front:
        assert front.wait("connected") == "connected"
    rogues.leave()
    yield rogues
    rogues.program.stop()
    rogues.client.command("client", "stop")
    rogues.client.stop()


@pytest.mark.parametrize("script", SCRIPTS)
def test_whatever_a_gateway_does(rogues: Rogues, script: str) -> None:
    before = rogues.descriptors()
    with rogues.meet(script) as front:
        front.wait("connected", seconds=PATIENCE)
        if script in REFUSED:
            assert (front.state, front.problem) == ("failed", REFUSED[script])
        elif script in HARMLESS:
            assert front.state == "connected"
        rogues.leave()
    wait_for(lambda: rogues.descriptors() <= before, "no descriptor is left", explain=rogues.client.tail)


def test_TMP(rogues: Rogues) -> None:
    import time

    for script in (
        "close-tunnel",
        "close-end",
        "fatal-tunnel",
        "garbage-tunnel",
        "other-certificate",
        "data-flood",
        "unknown-flood",
        "rekey-flood",
        "routes-special",
        "dns-loopback",
    ):
        at = len(rogues.program.log())
        with rogues.meet(script) as front:
            front.wait("connected", seconds=PATIENCE)
            front.wait("xxx", seconds=4)
            print(
                script,
                front.state,
                front.problem,
                len(front.states),
                [(s["state"], s["note"]) for s in front.states[3:9]],
            )
            print(rogues.program.log()[at:].count(": tls"))
            rogues.leave()
