"""Every driver on a machine of its kind, with real programs, real name servers and a sniffer outside.

What must hold is the same for all of them: corporate names are asked inside only, with split the others outside
only, without split nothing leaves; and in the end, also after kill -9, the machine is as it was.
"""

from __future__ import annotations

import pytest

from tests.e2e.client_dns.machines import (
    INTRANET,
    OUTSIDE4,
    PUBLIC_INSIDE,
    PUBLIC_OUTSIDE,
    Machine,
    Network,
    NetworkdMachine,
    PlainFileMachine,
    ResolvedMachine,
)
from tests.lab.waiting import wait_for

CORPORATE = ("intranet.corp.test", "intranet", "nowhere.corp.test", "secret.eu.corp.test")
"""Two that exist, the second by its search domain, and two that do not: those a resolver tries hardest."""


def ask_corporate(machine: Machine) -> list[str | None]:
    return [machine.resolve(name) for name in CORPORATE]


def assert_nothing_corporate(network: Network) -> None:
    seen = network.seen_outside()
    for part in (b"corp", b"intranet", b"nowhere", b"secret"):
        assert part not in seen, part


def test_split(machine: Machine) -> None:
    before = machine.state()
    agent = machine.agent(split=True)
    assert agent.driver == machine.kind
    assert agent("apply") is True
    assert ask_corporate(machine) == [INTRANET, INTRANET, None, None]
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE
    assert agent("verify") is True
    assert_nothing_corporate(machine.network)
    assert "query[A] www.public.test" not in machine.network.inside_dns.log()
    assert agent("revert") is True
    assert machine.state() == before
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE


@pytest.mark.parametrize(
    "how", [{"split": False}, {"split": True, "domains": ()}], ids=["full", "no domains"]
)
def test_all_names_inside(machine: Machine, how: dict) -> None:
    before = machine.state()
    agent = machine.agent(**how)
    assert agent("apply") is True
    assert machine.resolve("www.public.test") == PUBLIC_INSIDE
    assert machine.resolve("printer.lan") is None
    if how.get("domains") is None:
        assert ask_corporate(machine) == [INTRANET, INTRANET, None, None]
    assert agent("verify") is True
    assert_nothing_corporate(machine.network)
    seen = machine.network.seen_outside()
    assert b"public" not in seen
    assert b"printer" not in seen
    assert machine.network.outside_dns.log().count("query") == 0
    assert agent("revert") is True
    assert machine.state() == before
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE


def test_silent_servers_of_the_tunnel_stop_only_corporate_names(machine: Machine) -> None:
    agent = machine.agent(split=True)
    assert agent("apply") is True
    machine.network.silence_tunnel()
    assert agent("probe") == ["silent", "silent"]
    # systemd-resolved goes on trying for longer than any program waits; the forwarder soon says that it failed.
    hurry = "timeout:1 attempts:1" if machine.kind == "systemd-resolved" else ""
    assert machine.resolve("intranet.corp.test", options=hurry) is None
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE
    assert_nothing_corporate(machine.network)


def test_the_forwarder_asks_through_the_tunnels_device_or_not_at_all(network: Network) -> None:
    machine = PlainFileMachine(network)
    agent = machine.agent(split=True)
    assert agent("apply") is True
    machine.host.ip("link del lockgate0")  # the default route now leads to the servers' addresses
    assert machine.resolve("intranet.corp.test") is None
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE
    assert agent("probe") == ["unreachable", "unreachable"]
    assert_nothing_corporate(network)


@pytest.mark.parametrize("split", [True, False], ids=["split", "full"])
def test_kill_9_and_restore(machine: Machine, split: bool) -> None:
    before = machine.state()
    agent = machine.agent(split=split)
    assert agent("apply") is True
    agent.kill()
    assert machine.restore()
    assert machine.state() == before
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE
    assert machine.restore()  # twice does no harm
    assert machine.state() == before


def test_kill_9_and_the_next_service_goes_on(machine: Machine) -> None:
    before = machine.state()
    agent = machine.agent(split=True)
    assert agent("apply") is True
    agent.kill()
    second = machine.agent(split=False)  # and the gateway has changed its mind
    assert second.driver == machine.kind
    assert second("apply") is True
    assert machine.resolve("www.public.test") == PUBLIC_INSIDE
    assert second("verify") is True
    assert second("revert") is True
    assert machine.state() == before


def test_the_tunnels_device_vanishes_first(machine: Machine) -> None:
    agent = machine.agent(split=False)
    assert agent("apply") is True
    agent.kill()
    machine.host.ip("link del lockgate0")
    machine.restore()
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE


def test_somebody_else_writes(machine: Machine) -> None:
    agent = machine.agent(split=True)
    assert agent("apply") is True
    machine.meddle()
    wait_for(lambda: agent("verify") is False, "the driver notices")
    assert agent("apply") is True
    assert agent("verify") is True
    assert ask_corporate(machine)[0] == INTRANET
    assert_nothing_corporate(machine.network)
    agent.kill()
    machine.restore()
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE


def test_what_a_dhcp_client_wrote_meanwhile_is_given_back(network: Network) -> None:
    machine = PlainFileMachine(network)
    agent = machine.agent(split=False)
    assert agent("apply") is True
    machine.meddle()
    theirs = machine.state()
    assert agent("verify") is False
    assert agent("apply") is True
    assert agent("revert") is True
    assert machine.state() == theirs


def test_a_name_server_on_every_address_is_named_as_the_reason(network: Network) -> None:
    machine = PlainFileMachine(network)
    before = machine.state()
    other = machine.host.start(
        ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--pid-file=", "--no-resolv"], "dnsmasq"
    )
    wait_for(lambda: machine.host.run(["ss", "-lun", "sport = :53"]).stdout.count(":53"), "it listens")
    agent = machine.agent(split=True)
    assert agent("apply") == "dns-forwarder-busy"
    assert machine.state() == before
    other.stop()
    assert agent("apply") is True


def test_resolved_gives_a_hostile_network_its_domains_back(network: Network) -> None:
    machine = ResolvedMachine(network)
    agent = machine.agent(split=True)
    assert agent("apply") is True
    assert machine.control("domain", "eth0").split(":")[1].strip() == "~lan"
    assert machine.control("default-route", "eth0").strip().endswith("yes")
    assert "no" in machine.control("llmnr", "eth0")
    assert OUTSIDE4 in machine.control("dns", "eth0")
    machine.control("domain", "eth0", "elsewhere.lan")  # the network's own setting, and nothing against ours
    assert agent("verify") is False
    assert agent("apply") is True
    assert agent("revert") is True
    assert "elsewhere.lan" in machine.control("domain", "eth0")
    assert "yes" in machine.control("llmnr", "eth0")


@pytest.mark.parametrize("split", [True, False], ids=["split", "full"])
def test_a_link_of_networkds_is_changed_by_way_of_networkd(network: Network, split: bool) -> None:
    machine = NetworkdMachine(network)
    before = machine.control("domain", "eth0"), machine.control("llmnr", "eth0")
    agent = machine.agent(split=split)
    assert agent("apply") is True
    wait_for(lambda: agent("verify"), "systemd-networkd has passed it on")
    assert ask_corporate(machine) == [INTRANET, INTRANET, None, None]
    assert machine.resolve("www.public.test") == (PUBLIC_OUTSIDE if split else PUBLIC_INSIDE)
    assert_nothing_corporate(network)
    agent.kill()
    machine.restore()
    wait_for(
        lambda: (machine.control("domain", "eth0"), machine.control("llmnr", "eth0")) == before,
        "systemd-networkd's own settings are back",
    )
    assert machine.resolve("www.public.test") == PUBLIC_OUTSIDE
