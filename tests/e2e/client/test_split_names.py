"""Split tunnelling by DNS name: routes follow the answers of the gateway's name server while the tunnel lives.

A name server in the intranet, which the gateway asks, moves names between machines; our client hears of it during
its tunnel, openconnect when it connects.
"""

from __future__ import annotations

import itertools
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.client.conftest import Connected, user_of
from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, Program, wait_for
from tests.lab.name_server import NameServer
from tests.lab.own_client import OwnClient
from tests.lab.topology import CLIENT4, INTRANET4

# Machines of the intranet: where the names are, and one that an include by network leads to.
FIRST4, SECOND4, THIRD4, STEADY4 = "10.77.1.1", "10.77.1.2", "10.77.1.3", "10.77.2.1"
FIRST6 = "fd77::101"
STEADY_NET = "10.77.2.0/24"
# Machines outside, which answer only what comes past the tunnel.
CLOUD4, MOVED4 = "192.0.2.11", "192.0.2.12"
FILES, CLOUD = "files.lab.test", "cloud.lab.test"
ECHO = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7), 10) as s:
    s.settimeout(10)
    for number in range(1_000_000):
        s.sendall(b"%08d" % number)
        assert s.recv(8, socket.MSG_WAITALL) == b"%08d" % number
        print("echo", number, flush=True)
        time.sleep(0.05)
"""


_revisions = itertools.count(1)


@pytest.fixture(scope="module")
def gateway(lab: Lab, another_gateway: Callable[..., Gateway]) -> Gateway:
    inside = "".join(f"address replace {each}/16 dev eth0\n" for each in (FIRST4, SECOND4, THIRD4, STEADY4))
    lab.intranet.ip(f"{inside}address replace {FIRST6}/64 dev eth0 nodad")
    lab.guest.ip("\n".join(f"address replace {each}/25 dev eth0" for each in (CLOUD4, MOVED4)))
    return another_gateway()


@pytest.fixture
def names(lab: Lab, gateway: Gateway) -> Iterator[NameServer]:
    """Asked by the gateway."""
    server = NameServer(lab.intranet, INTRANET4, files=f"{FIRST4} {FIRST6}", cloud=CLOUD4)
    resolver = lab.gateway.directory / "resolv.conf"
    resolver.write_text(f"nameserver {INTRANET4}\n")
    yield server
    resolver.write_text("")
    server.stop()


def split(gateway: Gateway, *entries: tuple[str, str, list[str]]) -> None:
    """name, action, networks. A new revision each time, even if it says the same."""
    keys, number = ("name", "action", "networks"), next(_revisions)
    value = [dict(zip(keys, entry, strict=True)) for entry in entries]
    value = [{**entry, "name": f"{entry['name']} {number}"} for entry in value]
    gateway.commit(
        {"op": "set", "path": "split_tunneling_networks", "value": value},
        {"op": "set", "path": "roles/Users/vpn/split_tunneling", "value": "enabled"},
        {
            "op": "set",
            "path": "access_control",
            "value": [{"name": "all", "action": "allow", "to": ["0.0.0.0/0", "::/0"]}],
        },
    )


def told(client: OwnClient, what: str = "split_include") -> set[str]:
    return set(client.live()[what])


def hears(client: OwnClient, *hosts: str, what: str = "split_include", gone: tuple[str, ...] = ()) -> None:
    """Until the client has been told of these hosts, and not of those."""

    def heard() -> bool:
        known = told(client, what)
        wanted = {f"{host}/{128 if ':' in host else 32}" for host in hosts}
        return wanted <= known and not {f"{host}/32" for host in gone} & known

    wait_for(heard, f"the client hears of {hosts}", deadline=40, explain=client.tail)


def flow(lab: Lab, address: str) -> Program:
    ping = lab.client.start(["ping", "-n", "-O", "-i", "0.05", address], f"flow-{address}")
    ping.wait_log("bytes from")
    return ping


def lost(ping: Program) -> int:
    """Packets without an answer, at its end."""
    ping.stop(signal.SIGINT)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", ping.log())
    assert found
    return int(found[1]) - int(found[2])


def traces(lab: Lab) -> tuple[Any, ...]:
    """What of the client is on the machine: rules, routes, devices, firewall."""
    tables = lab.client.run(["nft", "list", "tables"]).stdout
    return (
        lab.client.ip_json("rule", "show", "table", "19527"),
        lab.client.run(["ip", "route", "show", "table", "19527"], check=False).stdout.strip(),
        [each["ifname"] for each in lab.client.ip_json("link", "show") if "lockgate" in each["ifname"]],
        "lockgate" in tables,
    )


NOTHING = ([], "", [], False)


def test_routes_follow_an_included_name_around_a_living_connection(
    lab: Lab, gateway: Gateway, names: NameServer, connected: Connected
) -> None:
    split(gateway, ("names", "include", [FILES]), ("networks", "include", [STEADY_NET]))
    client = connected(gateway)
    hears(client, FIRST4, FIRST6)
    assert lab.client.ping(FIRST4)
    assert lab.client.ping(FIRST6)
    assert not lab.client.ping(SECOND4)
    echo = lab.client.start([sys.executable, "-c", ECHO, STEADY4], "echo")
    echo.wait_log("echo 3")
    steady = flow(lab, STEADY4)

    names.move(files=SECOND4)
    hears(client, SECOND4, gone=(FIRST4,))
    wait_for(lambda: lab.client.ping(SECOND4), "packets follow the name")
    assert not lab.client.ping(FIRST4)
    names.move(files=f"{SECOND4} {THIRD4}")
    hears(client, SECOND4, THIRD4)
    wait_for(lambda: lab.client.ping(THIRD4), "packets follow the name again")

    # What an administrator commits is followed as well, and so is its end.
    split(gateway, ("names", "include", [FILES]), ("networks", "include", [STEADY_NET, f"{FIRST4}/32"]))
    hears(client, FIRST4, SECOND4)
    wait_for(lambda: lab.client.ping(FIRST4), "packets follow the commit")

    count = echo.log().count("echo")
    wait_for(lambda: echo.log().count("echo") > count + 3, "the connection lives", explain=echo.tail)
    assert lost(steady) <= 1  # the last one may be on its way
    echo.stop()
    assert client.live()["reconnects"] == 0
    assert not gateway.events("session-resume", user=user_of(client))
    client.disconnect()
    assert traces(lab) == NOTHING


def test_a_name_that_is_gone_opens_nothing_and_closes_nothing(
    lab: Lab, gateway: Gateway, names: NameServer, connected: Connected
) -> None:
    """With names alone: no answer must not turn into "everything goes through the tunnel"."""
    split(gateway, ("names", "include", [FILES]))
    client = connected(gateway)
    hears(client, FIRST4)
    names.move(files="")
    hears(client, gone=(FIRST4,))
    assert lab.client.ping(CLOUD4)
    assert not client.live()["full_tunnel"]
    # Names of the gateway and of clients' networks move nothing, whoever answers for them.
    names.move(files=f"127.0.0.1 203.0.113.2 169.254.169.254 {gateway.pool4.removesuffix('0/24')}7 {SECOND4}")
    hears(client, SECOND4)
    assert {each for each in told(client) if each.endswith("/32")} == {f"{SECOND4}/32"}


def test_an_excluded_name_leaves_a_full_tunnel_and_comes_back(
    lab: Lab, gateway: Gateway, names: NameServer, connected: Connected
) -> None:
    split(gateway, ("names", "exclude", [CLOUD]))
    client = connected(gateway)
    hears(client, CLOUD4, what="split_exclude")
    assert client.live()["full_tunnel"]
    assert lab.client.ping(CLOUD4)
    assert not lab.client.ping(MOVED4)
    steady = flow(lab, INTRANET4)
    recorder = lab.internet.capture("to-client", "excluded")
    names.move(cloud=MOVED4)
    hears(client, MOVED4, what="split_exclude", gone=(CLOUD4,))
    wait_for(lambda: lab.client.ping(MOVED4), "packets leave by the way of the name")
    recorder.stop()
    recorder = lab.internet.capture("to-client", "excluded-then")
    assert not lab.client.ping(CLOUD4)
    assert lab.client.ping(MOVED4)
    recorder.stop()
    outside = [packet for packet in lab.internet.packets("excluded-then") if packet[0] >> 4 == 4]
    targets = {".".join(map(str, each[16:20])) for each in outside if each[12:16] == _packed(CLIENT4)}
    assert MOVED4 in targets
    assert CLOUD4 not in targets
    assert lost(steady) <= 1
    client.disconnect()
    assert traces(lab) == NOTHING


def _packed(address: str) -> bytes:
    return bytes(map(int, address.split(".")))


def test_a_service_that_was_away_follows_and_a_reset_restores_all(
    lab: Lab, gateway: Gateway, names: NameServer, connected: Connected
) -> None:
    split(gateway, ("names", "include", [FILES]))
    client = connected(gateway)
    hears(client, FIRST4)
    names.move(files=SECOND4)
    hears(client, SECOND4, gone=(FIRST4,))
    client.kill_service()
    client.start()
    client.wait_state("connected")
    assert told(client) >= {f"{SECOND4}/32"}
    assert lab.client.ping(SECOND4)
    client.kill_service()
    names.move(files=THIRD4)
    wait_for(
        lambda: any(THIRD4 in each["addresses"] for each in gateway.events("name-resolved")),
        "the gateway knows the name's new address",
        deadline=30,
    )
    client.start()
    hears(client, THIRD4, gone=(SECOND4,))
    wait_for(lambda: lab.client.ping(THIRD4), "packets follow the name")
    client.kill_service()
    client.kill_edge()
    client.reset()
    assert traces(lab) == NOTHING


def test_a_restart_of_the_control_plane_moves_nothing_and_is_followed(
    lab: Lab, gateway: Gateway, names: NameServer, connected: Connected
) -> None:
    split(gateway, ("names", "include", [FILES]))
    client = connected(gateway)
    hears(client, FIRST4)
    steady = flow(lab, FIRST4)
    gateway.wait_successor("control", gateway.kill("control"))
    wait_for(lambda: gateway.status()["edge"] == "up", "the control plane is back", deadline=30)
    names.move(files=f"{FIRST4} {SECOND4}")
    hears(client, FIRST4, SECOND4)
    assert lost(steady) <= 1
    assert client.live()["reconnects"] == 0


def test_openconnect_hears_of_the_addresses_when_it_connects(
    lab: Lab, gateway: Gateway, names: NameServer, connected: Connected, connect: Connect
) -> None:
    split(gateway, ("in", "include", [FILES, STEADY_NET]), ("out", "exclude", [CLOUD]))
    ours = connected(gateway)
    hears(ours, FIRST4)  # so the gateway knows the names
    hears(ours, CLOUD4, what="split_exclude")
    client = connect(gateway, host=lab.guest).wait_configured()
    told = client.configuration()
    included = {told[f"CISCO_SPLIT_INC_{number}_ADDR"] for number in range(int(told["CISCO_SPLIT_INC"]))}
    assert {FIRST4, "10.77.2.0"} <= included
    assert told["CISCO_SPLIT_EXC_0_ADDR"] == CLOUD4
    assert told["CISCO_SPLIT_EXC_0_MASKLEN"] == "32"
    names.move(files=SECOND4)
    hears(ours, SECOND4)
    assert len(client.calls()) == 1 + sum(call["reason"] == "pre-init" for call in client.calls())
