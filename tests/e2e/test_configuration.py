"""What the configuration says is what reaches the client's script."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab
from tests.lab.topology import INTRANET4


def _networks(told: dict[str, str], name: str) -> set[str]:
    return {
        f"{told[f'{name}_{number}_ADDR']}/{told[f'{name}_{number}_MASKLEN']}"
        for number in range(int(told.get(name, "0")))
    }


@pytest.fixture(scope="module")
def rich(another_gateway: Callable[..., Gateway]) -> Gateway:
    return another_gateway(
        {
            "network": {
                "dns": '["10.77.0.10", "10.77.0.11"]',
                "search_domains": '["corp.example", "lab.example"]',
                "split_include": '["10.77.0.0/16", "172.20.0.0/14", "fd77::/64", "fd78::/48"]',
                "split_exclude": '["10.77.200.0/24", "fd77::c0/124"]',
                "mtu": "1350",
            },
            "sessions": {"idle_seconds": "900", "length_seconds": "7200"},
        }
    )


def test_every_value_arrives(lab: Lab, connect: Connect, rich: Gateway) -> None:
    client = connect(rich).wait_configured()
    told = client.configuration()
    assert told["INTERNAL_IP4_DNS"] == "10.77.0.10 10.77.0.11"
    assert told["CISCO_DEF_DOMAIN"].split() == ["corp.example", "lab.example"]
    assert told["INTERNAL_IP4_MTU"] == "1350"
    assert told["IDLE_TIMEOUT"] == "900"
    assert told["VPNGATEWAY"] == "203.0.113.2"
    assert _networks(told, "CISCO_SPLIT_INC") == {"10.77.0.0/16", "172.20.0.0/14"}
    assert _networks(told, "CISCO_SPLIT_EXC") == {"10.77.200.0/24"}
    assert _networks(told, "CISCO_IPV6_SPLIT_INC") == {"fd77::/64", "fd78::/48"}
    assert _networks(told, "CISCO_IPV6_SPLIT_EXC") == {"fd77::c0/124"}

    pool4, pool6 = ipaddress.ip_network(rich.pool4), ipaddress.ip_network(rich.pool6)
    assert ipaddress.ip_address(told["INTERNAL_IP4_ADDRESS"]) in pool4
    assert told["INTERNAL_IP4_NETMASK"] == "255.255.255.255"  # sessions share no link
    assert ipaddress.ip_address(told["INTERNAL_IP6_ADDRESS"]) in pool6
    assert [told["INTERNAL_IP4_ADDRESS"], told["INTERNAL_IP6_ADDRESS"]] == client.addresses()


def test_the_configured_mtu_passes_and_not_a_byte_more(lab: Lab, connect: Connect, rich: Gateway) -> None:
    connect(rich).wait_configured().wait_esp()
    ping = ["ping", "-n", "-q", "-c", "1", "-W", "2", "-M", "do", INTRANET4, "-s"]
    lab.client.run([*ping, str(1350 - 28)])
    assert lab.client.run([*ping, str(1350 - 27)], check=False).returncode != 0


def test_without_split_networks_everything_goes_through(
    lab: Lab, connect: Connect, another_gateway: Callable[..., Gateway]
) -> None:
    client = connect(another_gateway(split_include=[])).wait_configured()
    told = client.configuration()
    assert "CISCO_SPLIT_INC" not in told
    assert "CISCO_IPV6_SPLIT_INC" not in told
    assert lab.client.ping(INTRANET4)
    # The way to an address outside is the tunnel too, all but the gateway's own.
    assert lab.client.ip_json("route", "get", "192.0.2.2")[0]["dev"] == client.tun
    assert lab.client.ip_json("route", "get", "2001:db8:4::2")[0]["dev"] == client.tun
    assert lab.client.ip_json("route", "get", "203.0.113.2")[0]["dev"] == "eth0"


def test_one_family_only(lab: Lab, connect: Connect, another_gateway: Callable[..., Gateway]) -> None:
    for pools, family in ((["10.99.1.0/24"], 4), (["fd99:1::/64"], 6)):
        client = connect(another_gateway(pools=pools)).wait_configured()
        assert [":" in address for address in client.addresses()] == [family == 6]
        client.log_out()
