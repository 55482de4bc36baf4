"""Every script of the rogue gateway against the real client: it keeps its head, and gives everything back.

One service meets them all: what one of them left behind would show with the next.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import Lab, wait_for
from tests.lab.authority import Authority
from tests.lab.front import ENDED, Front, obedient
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
ODD = ("mtu-", "routes-", "inner-", "dns-", "domains-")
# What a client can live with: nothing in it hurts a packet.
HARMLESS = {
    *(name for name in SCRIPTS if name.startswith(ODD) and name not in REFUSED),
    *("twice-success", "twice-keys", "twice-end", "body-end", "swallow", "data-flood"),
    *("split-special", "split-none", "split-often"),
}
# What makes no sense before there is a tunnel.
BROKEN = ("close-", "cut-", "garbage-", "body-", "huge-", "short-", "fatal-", "http-", "tls-")
# A tunnel that comes to be, and then does not last.
SHORT = {name for name in SCRIPTS if name.endswith("-tunnel")} | {"unknown-flood", "rekey-flood"}


class Rogues:
    """All scripts, each at its port, and a client that meets one after the other."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        authority = Authority(lab.gateway.directory / "rogues")
        self.ca_file, issued = authority.ca_file, authority.issue(GATEWAY_NAME)
        files = ["--cert", str(issued.certificate), "--key", str(issued.key)]
        where = ["--listen", f"{GATEWAY4}:{FIRST_PORT}", "--patient"]
        line = lab.gateway.python("tests.lab.rogues", *where, *files, *SCRIPTS)
        self.program = lab.gateway.start(line, "rogues")
        self.program.wait_log("^ready$")
        self.client = OwnClient(lab.client).start()
        self.edge = self.client.edges()
        self.processes = self.client.processes()
        self.network = self._network()

    def meet(self, script: str, prompts: int = 8) -> Front:
        front = Front(self.client, obedient(prompts))
        return front.connect(f"https://{GATEWAY_NAME}:{PORTS[script]}/", ca=self.ca_file, user="alice")

    def descriptors(self) -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.processes]

    def leave(self) -> None:
        """Ends what is there."""
        for connection in self.client.connections():
            self.client.ask("disconnect", connection=connection["connection"])

    def check(self) -> None:
        """Nothing is left, and nobody stumbled."""
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
    rogues = Rogues(lab)
    with rogues.meet("swallow") as front:  # what is opened once and kept is open now
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
        if script in SHORT:
            front.wait("reconnecting", seconds=PATIENCE)
        rogues.leave()
    rogues.check()
    wait_for(lambda: rogues.descriptors() <= before, "no descriptor is left", explain=rogues.client.tail)
    seen = [state["state"] for state in front.states]
    if script in REFUSED:
        assert (front.state, front.problem) == ("failed", REFUSED[script])
        assert "connected" not in seen
    elif script in HARMLESS:
        assert seen[-1] == "connected" or "disconnecting" in seen
        assert "connected" in seen
        assert "reconnecting" not in seen
    elif script.startswith(BROKEN) and script not in SHORT:
        assert "connected" not in seen
    for state in front.states:
        assert state["note"].isprintable()
        if state["state"] == "failed":
            assert state["problem"]["summary"].isprintable()


@pytest.mark.parametrize(
    ("script", "problem"), [("tls-stall", "server-silent"), ("stall-facts", "server-silent")]
)
def test_a_gateway_that_falls_silent_is_left(rogues: Rogues, script: str, problem: str) -> None:
    with rogues.meet(script) as front:
        assert front.wait(seconds=60) == "failed"
        assert front.problem == problem
    rogues.check()


@pytest.mark.parametrize("script", ["close-tunnel", "garbage-tunnel"])
def test_a_gateway_that_drops_us_is_not_knocked_at_all_the_time(rogues: Rogues, script: str) -> None:
    with rogues.meet(script) as front:
        wait_for(
            lambda: front.wait("none", seconds=1) and front.problem == "dropped-again",
            "there is a pause",
            explain=rogues.client.tail,
        )
        # Seen by somebody: a pause is a state, with its reason.
        assert any("attempt" in state["note"] for state in front.states)
        rogues.leave()
    rogues.check()


def test_a_gateway_that_ends_the_session_is_believed(rogues: Rogues) -> None:
    with rogues.meet("fatal-tunnel") as front:
        assert front.wait(seconds=30) == "failed"
        assert front.problem == "session-terminated"
    rogues.check()


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name.startswith(("endless-", "tricky-"))])
def test_questions_end_when_the_user_has_enough(rogues: Rogues, script: str) -> None:
    with rogues.meet(script, prompts=3) as front:
        assert front.wait(seconds=30) in ENDED
        assert len(front.prompts) <= 4
        for prompt in front.prompts:
            shown = [prompt.get("text", ""), *prompt.get("choices", [])]
            assert not any("\x1b" in text for text in shown)
    rogues.check()


def test_a_machine_in_the_gateway_s_hands_keeps_its_own(lab: Lab, rogues: Rogues) -> None:
    """Overlapping addresses and networks of everything: what is the machine's own still works."""
    for script in ("routes-everything", "routes-special", "routes-local", "inner-client", "dns-loopback"):
        with rogues.meet(script) as front:
            assert front.wait("connected") == "connected", script
            assert lab.client.ping("127.0.0.1"), script
            assert lab.client.ping("::1"), script
            if script in ("routes-special", "dns-loopback"):
                assert lab.client.ping("198.51.100.1"), script
            rogues.leave()
        rogues.check()


@pytest.mark.parametrize(("script", "ways"), [("split-special", 1), ("split-none", 1), ("split-often", 10)])
def test_other_networks_in_the_tunnel_take_nothing_of_the_machine_s_own(
    lab: Lab, rogues: Rogues, script: str, ways: int
) -> None:
    """The same as above, told while the tunnel runs; what is told too often is not done that often."""

    def count() -> int:
        return rogues.client.debug_log().count('"split-networks-moved"')

    before = count()

    def moved() -> int:
        return count() - before

    with rogues.meet(script) as front:
        assert front.wait("connected") == "connected"
        wait_for(moved, "the client has heard", explain=rogues.client.tail)
        assert lab.client.ping("127.0.0.1")
        assert lab.client.ping("::1")
        if script == "split-often":
            wait_for(
                lambda: "10.77.20.0/24" in rogues.client.live()["split_include"],
                "the last word counts",
                explain=rogues.client.tail,
            )
        else:
            routes = lab.client.run(["ip", "route", "show", "table", "19527"]).stdout
            assert not any(network in routes for network in ("127.", "169.254.", "224."))
        assert front.state == "connected"
        assert moved() <= ways
        rogues.leave()
    rogues.check()
