"""From one plan to the next: no packet ever finds a way that neither of the two has for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Interface, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.linux.netlink import THROW, UNICAST, Entry
from lockgate.client.linux.routes import to_put, to_take_away, wanted
from lockgate.client.network_plan import LocalFacts, LocalInterface, NetworkPlan, Peer, Way
from lockgate.client.plan import make_plan
from lockgate.client.segments import Address, Network, deciding
from lockgate.protocol.pulse.config import TunnelConfig

FACTS = LocalFacts(
    "lockgate0",
    7,
    (Peer(ip_address("203.0.113.2"), 443, "tcp"),),
    (LocalInterface("eth0", 2, (ip_address("192.168.1.5"),), (ip_network("192.168.1.0/24"),)),),
)
BASE = TunnelConfig(
    1400,
    IPv4Address("10.8.0.2"),
    address6=IPv6Interface("fd88::2/128"),
    dns=(ip_address("10.77.0.53"),),
    local_subnet_access=True,
)
ONLY4 = replace(BASE, address6=None)


def _network(base: str, number: int, prefix: int) -> Network:
    outer = ip_network(base)
    length = outer.prefixlen + prefix
    return ip_network((int(outer.network_address) + (number << (outer.max_prefixlen - length)), length))


# Few enough networks that they overlap in every way: nested, equal, side by side, single hosts.
networks = st.one_of(
    st.sampled_from([ip_network("10.0.0.0/8"), ip_network("0.0.0.0/0"), ip_network("fd77::/64")]),
    *(
        st.builds(lambda number, b=base, p=prefix: _network(b, number % (1 << p), p), st.integers(0, 255))
        for base, prefix in (("10.77.0.0/30", 1), ("10.77.0.0/30", 2), ("10.77.0.0/24", 4), ("fd77::/126", 2))
    ),
)
configs = st.builds(
    lambda base, include, exclude: replace(base, include=tuple(include), exclude=tuple(exclude)),
    st.sampled_from([BASE, ONLY4]),
    st.lists(networks, max_size=5),
    st.lists(networks, max_size=5),
)
ADDRESSES = [
    *(ip_address(f"10.77.0.{number}") for number in (0, 1, 2, 3, 4, 17, 53, 80)),
    *map(ip_address, ("10.1.1.1", "192.0.2.1", "192.168.1.9", "10.8.0.2", "fd77::", "fd77::1", "fd77::3")),
    *map(ip_address, ("fd77::99", "2001:db8::1", "fe80::1")),
]


def way(entries: Iterable[Entry], address: Address) -> Way | None:
    """Where the kernel sends a packet by our table: the most specific network, there the best metric."""
    found = list(entries)
    network = deciding({entry.network for entry in found}, address)
    if network is None:
        return None
    best = min((entry for entry in found if entry.network == network), key=lambda entry: entry.metric)
    return {THROW: None, UNICAST: Way.TUNNEL}.get(best.kind, Way.NOWHERE)


def moments(before: set[Entry], goal: set[Entry]) -> Iterator[set[Entry]]:
    """The table after each step, as the kernel keeps it: one route for a network and a metric."""
    table = set(before)
    for entry in to_put(table, goal):
        table = {one for one in table if (one.network, one.metric) != (entry.network, entry.metric)}
        table.add(entry)
        yield table
    for entry in to_take_away(table, goal):
        table = table - {entry}
        yield table
    assert table == goal


def open_outside(plan: NetworkPlan, address: Address) -> bool:
    """Whether the firewall lets a packet for the address leave by eth0."""

    def holds(segment: object) -> bool:
        number, version = int(address), address.version
        return segment.version == version and segment.first <= number <= segment.last  # type: ignore[attr-defined]

    wish = plan.firewall
    if wish.full:
        return any(holds(each) and (not names or "eth0" in names) for each, names in wish.outside)
    return not any(map(holds, wish.enclosed))


@given(configs, configs)
def test_on_the_way_to_another_plan_a_packet_goes_as_one_of_the_two_says(
    first: TunnelConfig, second: TunnelConfig
) -> None:
    old, new = make_plan(first, FACTS), make_plan(second, FACTS)
    before, goal = wanted(old), wanted(new)
    allowed = {address: {way(before, address), way(goal, address)} for address in ADDRESSES}
    for table in moments(before, goal):
        for address in ADDRESSES:
            went = way(table, address)
            assert went in allowed[address], address
            # The firewall of the new plan is there before the first route moves.
            if new.way(address) in (Way.TUNNEL, Way.NOWHERE) and went is None:
                assert not open_outside(new, address)


@given(configs)
def test_what_is_in_place_is_left_alone(config: TunnelConfig) -> None:
    goal = wanted(make_plan(config, FACTS))
    assert list(moments(goal, goal)) == []


@given(configs)
def test_the_table_does_what_the_plan_says(config: TunnelConfig) -> None:
    plan = make_plan(config, FACTS)
    for address in ADDRESSES:
        said = plan.way(address)
        assert way(wanted(plan), address) is (None if said is Way.OUTSIDE else said)


def _most_specific(networks: Iterable[Network], address: Address) -> int:
    return max((each.prefixlen for each in networks if address in _of(each, address)), default=-1)


def _of(network: Network, address: Address) -> Iterable[object]:
    return network if network.version == address.version else ()


@given(st.lists(networks, min_size=1, max_size=5), st.lists(networks, max_size=5))
def test_the_most_specific_entry_decides_and_of_two_the_exclude(
    include: list[Network], exclude: list[Network]
) -> None:
    include = [each for each in include if each.prefixlen]
    exclude = [each for each in exclude if each.prefixlen]
    config = replace(
        BASE, dns=(), include=tuple(include) or (ip_network("10.0.0.0/8"),), exclude=tuple(exclude)
    )
    plan = make_plan(config, FACTS)
    for address in ADDRESSES[:8]:
        inside, outside = _most_specific(config.include, address), _most_specific(exclude, address)
        assert (plan.way(address) is Way.TUNNEL) is (inside > outside), address
