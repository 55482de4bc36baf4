"""Whatever happens to the network, the gateway or the client: same session, same addresses, no question."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.client.conftest import Connected, user_of
from tests.lab import Gateway, Lab, wait_for
from tests.lab.own_client import OwnClient
from tests.lab.topology import INTRANET4, INTRANET6, ROAMING4, ROAMING6
from tests.lab.transfer import download

LARGE = 20_000_000


def _reaches(lab: Lab) -> bool:
    return lab.client.ping(INTRANET4) and lab.client.ping(INTRANET6)


class Kept:
    """The session before, for comparison."""

    def __init__(self, lab: Lab, gateway: Gateway, client: OwnClient) -> None:
        self.lab, self.gateway, self.client = lab, gateway, client
        live = client.live()
        self.addresses = live["ipv4"], live["ipv6"]
        self.session = gateway.session_of(user_of(client))["id"]

    def check(self, transport: str | None = "esp", deadline: float = 60) -> None:
        self.client.wait_state("connected", transport=transport, deadline=deadline)
        wait_for(
            lambda: _reaches(self.lab), "packets pass again", deadline=deadline, explain=self.client.tail
        )
        live = self.client.live()
        assert (live["ipv4"], live["ipv6"]) == self.addresses
        assert self.gateway.session_of(user_of(self.client))["id"] == self.session


def events(client: OwnClient) -> list[int]:
    import json

    path = client.state_dir / "events.log"
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_udp_blocked_and_back(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    # A connection that lives through both changes.
    stream = lab.client.start(
        [
            "curl",
            "-sS",
            "--fail",
            "--limit-rate",
            "1M",
            "-o",
            "/dev/null",
            f"http://{INTRANET4}/bytes/{LARGE}",
        ],
        "stream",
    )
    lab.impair.block_udp()
    client.wait_state("connected", transport="tls", deadline=30)
    wait_for(lambda: _reaches(lab), "packets pass over TLS", deadline=20)
    assert 305 in events(client)
    wait_for(
        lambda: gateway.session_of(user_of(client))["transport"] == "tls", "the gateway knows", deadline=20
    )
    lab.impair.unblock_udp()
    client.wait_state("connected", transport="esp", deadline=40)
    assert events(client)[-1] == 306
    assert stream.wait(deadline=60) == 0, stream.log()
    kept.check()


def test_udp_blocked_from_the_start(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    lab.impair.block_udp()
    client = connected(gateway, transport="tls")
    wait_for(lambda: _reaches(lab), "packets pass over TLS", deadline=20)
    lab.impair.unblock_udp()
    client.wait_state("connected", transport="esp", deadline=40)


def test_roaming(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    stream = lab.client.start(
        [
            "curl",
            "-sS",
            "--fail",
            "--limit-rate",
            "2M",
            "-o",
            "/dev/null",
            f"http://{INTRANET4}/bytes/{LARGE}",
        ],
        "stream-roam",
    )
    lab.impair.roam()
    kept.check()
    assert gateway.session_of(user_of(client))["source"] in (ROAMING4, ROAMING6)
    assert stream.wait(deadline=60) == 0, stream.log()
    lab.impair.roam()
    kept.check()


def test_a_cut_network(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    lab.impair.cut()
    wait_for(lambda: not lab.client.ping(INTRANET4), "nothing passes")
    lab.impair.restore()
    kept.check()


def test_an_unplugged_cable(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    lab.impair.unplug()
    client.wait_state("reconnecting", deadline=30)
    lab.impair.plug()
    kept.check()


def test_suspend_and_wake(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    client.command("client", "sleep")
    assert client.connections()[0]["state"] == "reconnecting"
    assert events(client)[-1] == 106
    assert not lab.client.ping(INTRANET4)
    client.command("client", "wake")
    kept.check()


@pytest.mark.parametrize("part", ["control", "edge"])
def test_the_gateway_s_parts_die(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected, part: str
) -> None:
    gateway = another_gateway()
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    gateway.kill(part)
    kept.check()


def test_the_gateway_restarts(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected
) -> None:
    gateway = another_gateway()
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    gateway.stop()
    client.wait_state("reconnecting", deadline=30)
    gateway.start()
    kept.check()


def test_the_service_dies_and_the_tunnel_does_not(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    [edge] = client.edges()
    ping = lab.client.start(["ping", "-i", "0.02", "-c", "200", "-q", INTRANET4], "ping-service")
    client.kill_service()
    client.start()
    assert ping.wait(deadline=30) == 0
    assert " 0% packet loss" in ping.log()
    assert client.edges() == [edge]
    kept.check()
    client.disconnect()
    gateway.wait_no_sessions(user_of(client))


def test_a_service_upgrade_keeps_the_tunnel(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    client.leave()
    assert lab.client.ping(INTRANET4)
    client.start()
    kept.check()


def test_the_edge_dies(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    killed = client.kill_edge()
    client.wait_edge(killed)
    kept.check()
    download(lab.client, lab.intranet, INTRANET4, 1_000_000)


def test_both_die_and_the_next_start_comes_back(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    client.kill_service()
    client.kill_edge()
    client.start()
    kept.check()


def test_both_die_and_reset_gives_the_machine_back(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    before = _network(lab)
    client = connected(gateway)
    client.kill_service()
    client.kill_edge()
    client.reset()
    assert _network(lab) == before
    assert lab.client.ping("203.0.113.2")


def _network(lab: Lab) -> dict[str, str]:
    """What a machine's network consists of."""
    run = lab.client.run
    return {
        "rules": run(["ip", "rule"]).stdout + run(["ip", "-6", "rule"]).stdout,
        "routes": run(["ip", "route", "show", "table", "all"]).stdout,
        "nft": run(["nft", "list", "ruleset"]).stdout,
        "resolv.conf": run(["cat", "/etc/resolv.conf"]).stdout,
        "links": ",".join(sorted(link["ifname"] for link in lab.client.ip_json("link", "show"))),
    }


def test_the_server_ends_the_session(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    gateway.disconnect(user_of(client))
    client.wait_state("failed", deadline=20)
    problem = client.connections()[0]["problem"]
    assert problem["code"] == "session-terminated"
    found = gateway.rest("GET", f"/decisions/{problem['support_code']}")
    assert (found["kind"], found["user"]) == ("end", user_of(client))
    assert 308 in events(client)
    assert not lab.client.ping(INTRANET4)


def test_a_session_that_ended_while_we_were_away(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    lab.impair.unplug()
    client.wait_state("reconnecting", deadline=30)
    gateway.disconnect(user_of(client))
    lab.impair.plug()
    client.wait_state("failed", deadline=60)
    # By the old connection's last word, or by the cookie that is worth nothing any more.
    assert client.connections()[0]["problem"]["code"] in ("session-gone", "session-terminated")
