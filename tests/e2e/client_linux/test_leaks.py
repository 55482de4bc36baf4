"""What belongs in the tunnel does not leave beside it, whatever the network around the client says.

Topology: client eth0 — internet; the tunnel is a TUN that nobody reads, so a packet is in it, or seen by the
sniffer on eth0, or nowhere.
"""

from __future__ import annotations

import pytest

from tests.e2e.client_linux.place import Place
from tests.lab.topology import CLIENT4, GATEWAY4, GATEWAY6
from tests.lab.waiting import wait_for

ROUTER4, ROUTER6 = "198.51.100.1", "2001:db8:1::1"
OUTSIDE4, OUTSIDE6 = "192.0.2.2", "2001:db8:4::2"
MARK = 0x4C47
SPLIT = {"include": ["10.77.0.0/16", "fd77::/64"], "tunnel_routes_first": True}


def test_split_tunnel(place: Place) -> None:
    place.apply(**SPLIT, exclude=["10.77.5.0/24"])
    assert [place.way(a) for a in ("10.77.0.10", "fd77::10", OUTSIDE4, OUTSIDE6, "10.77.5.1")] == [
        place.tun, place.tun, "eth0", "eth0", "eth0",
    ]  # fmt: skip
    with place.leaks() as leaks:
        place.send("10.77.0.10", "fd77::10", OUTSIDE4, OUTSIDE6)
        assert place.in_tun() == ["10.77.0.10", "fd77::10"]
    assert not leaks.to("10.77.0.10", "fd77::10")
    assert len(leaks.to(OUTSIDE4, OUTSIDE6)) == 2


@pytest.mark.parametrize(("carried", "blocked"), [("address4", "address6"), ("address6", "address4")])
def test_a_full_tunnel_blocks_the_version_it_does_not_carry(place: Place, carried: str, blocked: str) -> None:
    place.apply(**{blocked: None})
    inside, outside = (OUTSIDE4, OUTSIDE6) if carried == "address4" else (OUTSIDE6, OUTSIDE4)
    assert place.way(inside) == place.tun
    assert place.way(outside) == ""
    with place.leaks() as leaks:
        place.send(inside, outside, ROUTER4, ROUTER6)
        place.send(inside, outside, ROUTER4, ROUTER6, interface="eth0")
    assert not leaks.to(inside, outside, ROUTER4, ROUTER6)


# DHCP option 121 (TunnelVision, CVE-2024-3661), router advertisements, and other programs.
ROUTES = f"""\
route add 0.0.0.0/1 via {ROUTER4}
route add 128.0.0.0/1 via {ROUTER4}
route add 10.77.0.10/32 via {ROUTER4}
route add default via {ROUTER4} dev eth0 metric 1
-6 route add ::/1 via {ROUTER6}
-6 route add 8000::/1 via {ROUTER6}
-6 route add fd77::10/128 via {ROUTER6}
-6 route add default via {ROUTER6} dev eth0 metric 1"""


@pytest.mark.parametrize("config", [SPLIT, {}], ids=["split", "full"])
def test_routes_of_the_local_network_divert_nothing(place: Place, config: dict[str, object]) -> None:
    place.apply(**config)
    try:
        place.host.ip(ROUTES)
        with place.leaks() as leaks:
            place.send("10.77.0.10", "fd77::10")
            assert place.in_tun() == ["10.77.0.10", "fd77::10"]
            # A program that binds to the interface passes the routes by, and meets the firewall.
            place.send("10.77.0.10", "fd77::10", interface="eth0")
        assert not leaks.to("10.77.0.10", "fd77::10")
        assert place.ask("verify") == []
    finally:
        place.host.ip(ROUTES.replace("route add", "route del"))


@pytest.mark.parametrize("config", [SPLIT, {}, {"local_subnet_access": True}], ids=["split", "full", "local"])
def test_a_local_network_that_claims_the_addresses_gets_nothing(
    place: Place, config: dict[str, object]
) -> None:
    """TunnelCrack (CVE-2023-36672): the access point says that a public network is local."""
    claim = "address add 10.77.0.99/16 dev eth0\naddress add 203.0.113.99/24 dev eth0"
    place.host.ip(claim)
    try:
        place.apply(**config, dns=["10.77.0.10"])
        with place.leaks() as leaks:
            wanted = ["10.77.0.10"] if config is SPLIT else ["10.77.0.10", "203.0.113.50"]
            place.send(*wanted)
            assert place.in_tun() == sorted(wanted)
            place.send(*wanted, interface="eth0")
        assert not leaks.to("203.0.113.50") or config is SPLIT
        assert not leaks.to("10.77.0.10")
    finally:
        place.host.ip(claim.replace("address add", "address del"))


def test_the_gateways_address_is_open_for_our_own_sockets_alone(place: Place) -> None:
    """TunnelCrack, server address: a false answer to the gateway's name must not free that address."""
    place.apply()
    assert place.way(GATEWAY4) == place.tun
    assert place.way(GATEWAY4, mark=MARK) == place.way(GATEWAY6, mark=MARK) == "eth0"
    assert place.ask("path", GATEWAY4) == ["eth0", CLIENT4, ROUTER4]
    with place.leaks() as leaks:
        place.send(GATEWAY4, GATEWAY6, port=4500)
        place.send(GATEWAY4, GATEWAY6, port=4500, interface="eth0")  # address and port without the mark
        place.send(GATEWAY4, GATEWAY6, port=4501, mark=MARK)  # the mark with another port
        place.send(OUTSIDE4, OUTSIDE6, port=4500, mark=MARK)  # and with another address
    assert not leaks.to(GATEWAY4, GATEWAY6, OUTSIDE4, OUTSIDE6)
    with place.leaks() as leaks:
        place.send(GATEWAY4, GATEWAY6, port=4500, mark=MARK)
    assert len(leaks.to(GATEWAY4, GATEWAY6)) == 2


def test_without_a_way_to_the_gateway_its_packets_do_not_enter_the_tunnel(place: Place) -> None:
    place.apply()
    place.lab.impair.unplug()
    try:
        assert place.way(GATEWAY4, mark=MARK) == ""
        assert place.ask("path", GATEWAY4) is None
    finally:
        place.lab.impair.plug()
    assert place.way(GATEWAY4, mark=MARK) == "eth0"


@pytest.mark.parametrize("config", [SPLIT, {}], ids=["split", "full"])
def test_nothing_leaks_while_the_device_is_away(place: Place, config: dict[str, object]) -> None:
    place.apply(**config)
    place.ask("close-tun")
    wait_for(
        lambda: all(link["ifname"] != place.tun for link in place.host.ip_json("link")), "the device is gone"
    )
    assert place.way("10.77.0.10") == place.way("fd77::10") == ""
    with place.leaks() as leaks:
        place.send("10.77.0.10", "fd77::10")
        place.send("10.77.0.10", "fd77::10", interface="eth0")
    assert not leaks.to("10.77.0.10", "fd77::10")
    assert "device-gone" in place.ask("verify")


def test_rules_before_ours_are_reported_and_leak_nothing(place: Place) -> None:
    place.apply(**SPLIT)
    place.host.ip("rule add to 10.77.0.0/16 lookup main pref 100\n-6 rule add lookup main pref 100")
    try:
        assert place.way("10.77.0.10") == "eth0"
        assert place.ask("verify") == ["rule-foreign"]
        with place.leaks() as leaks:
            place.send("10.77.0.10", "fd77::10")
        assert not leaks.to("10.77.0.10", "fd77::10")
    finally:
        place.host.ip("rule del pref 100\n-6 rule del pref 100")


def test_names_are_asked_in_the_tunnel_alone(place: Place) -> None:
    """Also where local networks are open; the rest of them is reachable, by their own interface."""
    place.host.ip(
        "address add 192.168.7.2/24 dev eth0\nneigh add 192.168.7.1 lladdr 02:00:00:00:00:01 dev eth0"
    )
    try:
        place.apply(local_subnet_access=True, dns=["10.77.0.10"])
        with place.leaks() as leaks:
            for port in (53, 853, 137):
                place.send("192.168.7.1", OUTSIDE4, port=port)
                place.send("192.168.7.1", port=port, interface="eth0")
        assert not leaks.to("192.168.7.1", OUTSIDE4)
        with place.leaks() as leaks:
            place.send("192.168.7.1")
        assert len(leaks.to("192.168.7.1")) == 1
        place.apply(dns=["10.77.0.10"])
        with place.leaks() as leaks:
            place.send("192.168.7.1")
            place.send("192.168.7.1", interface="eth0")
        assert not leaks.to("192.168.7.1")
    finally:
        place.host.ip(
            "neigh del 192.168.7.1 lladdr 02:00:00:00:00:01 dev eth0\naddress del 192.168.7.2/24 dev eth0"
        )


def test_packets_for_the_inner_address_come_through_the_tunnel_or_not_at_all(place: Place) -> None:
    """CVE-2019-14899: somebody on the link feels for the inner address."""
    place.apply()
    router = place.lab.internet
    router.ip(f"route add 10.88.0.10/32 via {CLIENT4}\n-6 route add fd88::10/128 via 2001:db8:1::2")
    try:
        with place.leaks() as leaks:
            assert not router.ping("10.88.0.10", within=0.2)
            assert not router.ping("fd88::10", within=0.2)
        assert len(leaks.to("10.88.0.10", "fd88::10")) == 2, "the packets must have come as far as the client"
        counted = place.host.run(["nft", "list", "table", "inet", "lockgate"]).stdout
        for address in ("10.88.0.10", "fd88::10"):
            assert f"daddr {address} counter packets 1 " in counted
    finally:
        router.ip(f"route del 10.88.0.10/32 via {CLIENT4}\n-6 route del fd88::10/128 via 2001:db8:1::2")


def test_a_strict_reverse_path_filter_lets_the_gateways_answers_in(place: Place) -> None:
    place.host.sysctl({"net.ipv4.conf.eth0.rp_filter": 1})
    try:
        place.apply()
        assert place.host.run(["sysctl", "-n", "net.ipv4.conf.all.src_valid_mark"]).stdout == "1\n"
        # Taken or refused: either is an answer, and depends on whether a gateway runs there just now.
        ask = (
            "import socket\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)\n"
            f"s.setsockopt(socket.SOL_SOCKET, 36, {MARK}); s.settimeout(10)\n"
            "try:\n"
            f"    s.connect(('{GATEWAY4}', 443))\n"
            "except ConnectionRefusedError:\n"
            "    pass\n"
            "print('answered')\n"
        )
        assert place.host.run(["python3", "-c", ask]).stdout == "answered\n"
    finally:
        place.host.sysctl({"net.ipv4.conf.eth0.rp_filter": 0})
