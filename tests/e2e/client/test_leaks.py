"""The leak exam: a hostile network around the client, and a recorder outside that must see nothing.

The recorder stands at the router, where the client's packets arrive whatever interface they left by. Allowed are
packets between client and gateway, on the ports of TLS and ESP, and neighbour discovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address

import pytest

from tests.e2e.client.conftest import Connected
from tests.lab import Gateway, Lab, wait_for
from tests.lab.own_client import OwnClient
from tests.lab.probe import TCP, UDP, ip_packet, udp_datagram
from tests.lab.topology import GATEWAY4, GATEWAY6, INTRANET4, INTRANET6

STRANGER4, STRANGER6 = "192.0.2.2", "2001:db8:4::2"
"""A host outside that answers: the lab's guest."""


class Recorder:
    """What the router hears from the client."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self._name = lab, name
        self._programs = [
            lab.internet.capture(interface, f"{name}-{interface}") for interface in ("to-client", "to-wlan")
        ]

    def _settle(self) -> None:
        """Waits until all that passed by so far is recorded: a packet of the router's own comes last."""
        for interface, mark in (("to-client", "198.51.100.250"), ("to-wlan", "192.0.2.250")):
            [link] = self._lab.internet.ip_json("link", "show", interface)
            if link["operstate"] != "UP":
                continue  # the client is not there now, and what was is recorded long since
            before = self._count(interface, mark)
            packet = ip_packet("198.51.100.1", mark, UDP, udp_datagram("198.51.100.1", mark, 9, b"mark"))
            self._lab.internet.run(
                self._lab.internet.python("tests.lab.probe", "raw-dev", interface, packet.hex()), check=False
            )
            wait_for(partial(self._marked, interface, mark, before), "the recorder has caught up")

    def _marked(self, interface: str, mark: str, before: int) -> bool:
        return self._count(interface, mark) > before

    def _count(self, interface: str, address: str) -> int:
        packets = self._lab.internet.packets(f"{self._name}-{interface}")
        return sum(str(_facts(packet)[1]) == address for packet in packets)

    def leaked(self, gateway: Gateway) -> list[str]:
        """Packets of the client that are not its tunnel's, as "source > destination protocol port"."""
        self._settle()
        found = []
        for interface in ("to-client", "to-wlan"):
            for packet in self._lab.internet.packets(f"{self._name}-{interface}"):
                source, destination, protocol, port = _facts(packet)
                if not _from_client(source) or _neighbourly(destination, protocol):
                    continue
                ours = str(destination) in (GATEWAY4, GATEWAY6) and port in (gateway.port, gateway.esp_port)
                if not ours:
                    found.append(f"{source} > {destination} {protocol} {port}")
        return found

    def saw(self, address: str) -> bool:
        """Whether anything to this address went by: shows that the recorder records."""
        self._settle()
        return any(self._count(interface, address) for interface in ("to-client", "to-wlan"))

    def stop(self) -> None:
        for program in self._programs:
            program.stop()


def _facts(packet: bytes) -> tuple[object, object, int, int]:
    if packet[0] >> 4 == 4:
        head = (packet[0] & 15) * 4
        source, destination, protocol = ip_address(packet[12:16]), ip_address(packet[16:20]), packet[9]
    else:
        head, protocol = 40, packet[6]
        source, destination = ip_address(packet[8:24]), ip_address(packet[24:40])
    port = int.from_bytes(packet[head + 2 : head + 4]) if protocol in (TCP, UDP) else 0
    return source, destination, protocol, port


def _from_client(source: object) -> bool:
    return str(source).startswith(
        ("198.51.100.2", "192.0.2.130", "2001:db8:1::2", "2001:db8:3::2", "10.", "fd")
    )


def _neighbourly(destination: object, protocol: int) -> bool:
    address = ip_address(str(destination))
    return address.is_multicast or address.is_link_local or (protocol == 58 and str(address).endswith("::1"))


@pytest.fixture
def recorder(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Recorder]:
    recorder = Recorder(lab, request.node.name.translate(str.maketrans("[] ", "---")))
    yield recorder
    recorder.stop()


@pytest.fixture(scope="module")
def full(another_gateway: Callable[..., Gateway]) -> Gateway:
    """Everything goes through the tunnel."""
    return another_gateway(split_include=())


def test_the_recorder_would_see_it(lab: Lab, gateway: Gateway, recorder: Recorder) -> None:
    lab.client.ping(STRANGER4)
    assert recorder.saw(STRANGER4)
    assert recorder.leaked(gateway)


HOSTILE_ROUTES = {
    "DHCP option 121": "route add {net} via 198.51.100.1 dev eth0\nroute add {host}/32 via 198.51.100.1 dev eth0",
    "two halves of everything": "route add 0.0.0.0/1 via 198.51.100.1\nroute add 128.0.0.0/1 via 198.51.100.1",
    "a local network that is not": "address add 10.77.0.200/16 dev eth0",
    "a table of its own": "route add {host}/32 via 198.51.100.1 dev eth0 table 77\nrule add to {host} lookup 77 pref 18000",
}


@pytest.mark.parametrize("trick", HOSTILE_ROUTES)
def test_routes_divert_nothing(
    lab: Lab, gateway: Gateway, connected: Connected, recorder: Recorder, trick: str
) -> None:
    connected(gateway)
    lines = HOSTILE_ROUTES[trick].format(net="10.77.0.0/17", host=INTRANET4)
    try:
        lab.client.ip(lines)
        lab.client.ping(INTRANET4, count=3)
        lab.client.run(["curl", "-s", "--max-time", "2", f"http://{INTRANET4}/"], check=False)
    finally:
        undo = [line.replace(" add ", " del ") for line in reversed(lines.splitlines())]
        lab.client.ip("\n".join(undo))
    assert recorder.leaked(gateway) == []
    wait_for(lambda: lab.client.ping(INTRANET4), "the tunnel works")


def test_everything_tunnelled_means_everything(
    lab: Lab, full: Gateway, connected: Connected, recorder: Recorder
) -> None:
    connected(full)
    for address in (STRANGER4, STRANGER6, GATEWAY4):
        lab.client.ping(address)
    # Another program's packets to the gateway's own address belong in the tunnel too (TunnelCrack).
    lab.client.run(["curl", "-s", "--max-time", "2", f"http://{GATEWAY4}:81/"], check=False)
    lab.client.run(
        ["python3", "-c", f"import socket; socket.socket(2, 2).sendto(b'x' * 40, ('{STRANGER4}', 53))"],
        check=False,
    )
    assert recorder.leaked(full) == []
    assert lab.client.ping(INTRANET4)


def test_a_version_that_the_tunnel_lacks_is_blocked(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected, recorder: Recorder
) -> None:
    only4 = another_gateway(split_include=(), pools=("10.120.0.0/24",))
    connected(only4)
    assert not lab.client.ping(STRANGER6)
    lab.client.ip("-6 route add 2001:db8:4::/64 via 2001:db8:1::1 dev eth0")
    try:
        assert not lab.client.ping(STRANGER6)
    finally:
        lab.client.ip("-6 route del 2001:db8:4::/64 via 2001:db8:1::1 dev eth0")
    assert recorder.leaked(only4) == []


@pytest.mark.parametrize("who", ["service", "edge", "both"])
def test_a_crash_opens_nothing(
    lab: Lab, full: Gateway, connected: Connected, recorder: Recorder, who: str
) -> None:
    client = connected(full)
    stream = lab.client.start(["ping", "-i", "0.01", "-c", "300", "-q", STRANGER4], f"ping-{who}")
    if who in ("service", "both"):
        client.kill_service()
    if who in ("edge", "both"):
        client.kill_edge()
    stream.wait(deadline=30)
    assert recorder.leaked(full) == []
    if who != "edge":
        client.start()
    client.wait_state("connected")


def test_sleep_and_roaming_open_nothing(
    lab: Lab, full: Gateway, connected: Connected, recorder: Recorder
) -> None:
    client = connected(full)
    stream = lab.client.start(["ping", "-i", "0.01", "-c", "600", "-q", STRANGER4], "ping-roam")
    client.command("client", "sleep")
    client.command("client", "wake")
    client.wait_state("connected")
    lab.impair.roam()
    stream.wait(deadline=30)
    client.wait_state("connected")
    assert recorder.leaked(full) == []


def test_local_subnets_only_where_allowed(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected
) -> None:
    """A printer on a private network of the client's own."""
    lab.internet.ip("address add 192.168.7.1/24 dev to-client")
    lab.client.ip("address add 192.168.7.2/24 dev eth0")
    try:
        closed = another_gateway(split_include=())
        client = connected(closed)
        assert not lab.client.ping("192.168.7.1")
        client.disconnect()
        opened = another_gateway({"network": {"local_subnet_access": "true"}}, split_include=())
        connected(opened)
        assert lab.client.ping("192.168.7.1")
        # A public network on the link is not local, whatever DHCP says.
        assert not lab.client.ping("198.51.100.1")
    finally:
        lab.internet.ip("address del 192.168.7.1/24 dev to-client")
        lab.client.ip("address del 192.168.7.2/24 dev eth0")


def test_tampered_routes_are_put_back(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    connected(gateway)
    lab.client.ip("route del 10.77.0.0/16 table 19527")
    wait_for(lambda: lab.client.ping(INTRANET4), "the route is back", deadline=20)
    lab.client.run(["nft", "delete", "table", "inet", "lockgate"])
    wait_for(
        lambda: "lockgate" in lab.client.run(["nft", "list", "tables"]).stdout,
        "the firewall is back",
        deadline=20,
    )


def test_tampered_routes_end_the_connection_where_the_gateway_wants_that(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected
) -> None:
    strict = another_gateway({"network": {"route_monitor": "true"}})
    client: OwnClient = connected(strict)
    lab.client.ip("route del 10.77.0.0/16 table 19527")
    client.wait_state("failed", deadline=20)
    assert client.connections()[0]["problem"]["code"] == "routes-changed"
    assert '"id": 304' in (client.state_dir / "events.log").read_text()


def test_names_go_the_tunnel_s_way_or_none(
    lab: Lab, full: Gateway, connected: Connected, recorder: Recorder
) -> None:
    """A DHCP client writes its own server into resolv.conf: nothing goes there, and ours come back."""
    connected(full)
    resolv = "/etc/resolv.conf"
    assert f"nameserver {INTRANET4}" in lab.client.run(["cat", resolv]).stdout
    lab.client.run(["sh", "-c", f"echo 'nameserver {STRANGER4}' > {resolv}"])
    lab.client.run(["getent", "hosts", "secret.corp.test"], check=False)
    wait_for(
        lambda: f"nameserver {INTRANET4}" in lab.client.run(["cat", resolv]).stdout,
        "the servers are back",
        deadline=20,
    )
    assert recorder.leaked(full) == []


def test_ipv6_inside_is_not_forgotten(
    lab: Lab, full: Gateway, connected: Connected, recorder: Recorder
) -> None:
    connected(full, host=GATEWAY4)
    assert lab.client.ping(INTRANET6)
    assert recorder.leaked(full) == []
