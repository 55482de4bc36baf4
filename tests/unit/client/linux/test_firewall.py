"""The text for nft; what it does with packets is shown in tests/e2e/client_linux."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from lockgate.client.linux.firewall import rules
from lockgate.client.plan import LocalFacts, LocalInterface, Peer, make_plan
from lockgate.protocol.errors import UsageError
from lockgate.protocol.pulse.config import TunnelConfig

FACTS = LocalFacts("lockgate0", 7, (Peer(ip_address("203.0.113.2"), 4500, "udp"),))
FULL = TunnelConfig(1400, IPv4Address("10.8.0.2"), local_subnet_access=True)


def lines(config: TunnelConfig, facts: LocalFacts = FACTS) -> list[str]:
    return rules(make_plan(config, facts)).splitlines()


def test_the_old_table_goes_in_the_transaction_that_brings_the_new() -> None:
    assert lines(FULL)[:3] == ["table inet lockgate", "delete table inet lockgate", "table inet lockgate {"]


def test_names_are_dropped_before_anything_outside_is_accepted() -> None:
    home = LocalInterface("eth0", 2, (), (ip_network("192.168.1.0/24"),))
    text = lines(replace(FULL, exclude=(ip_network("8.8.0.0/16"),)), replace(FACTS, interfaces=(home,)))
    names = next(n for n, line in enumerate(text) if "53, 137, 853" in line)
    accepted = [n for n, line in enumerate(text) if "8.8.0.0" in line or "192.168.1.0" in line]
    assert len(accepted) == 2
    assert names < min(accepted)


def test_a_split_tunnel_says_nothing_about_other_networks() -> None:
    text = "\n".join(lines(replace(FULL, include=(ip_network("10.77.0.0/16"),))))
    assert "10.77.0.0-10.77.255.255 } counter drop" in text
    assert "\ncounter drop" not in text


@pytest.mark.parametrize("name", ['e"; accept', "eth*", "a b", ""])
def test_no_name_can_say_more_than_itself(name: str) -> None:
    home = LocalInterface(name, 2, (), (ip_network("192.168.1.0/24"),))
    with pytest.raises(UsageError):
        lines(FULL, replace(FACTS, interfaces=(home,)))
