"""Access rules: what is compiled is what was written, and `explain` decides as the edge does."""

from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.access_rule import AccessRule, PortRange, Rule
from lockgate.policy.access import (
    ICMP,
    ICMPV6,
    MAX_ADDRESSES,
    TCP,
    UDP,
    compile_rules,
    explain,
    reserved_networks,
)
from lockgate.protocol import edge_link

POOL = ip_network("10.88.0.0/16")
GATEWAY = ip_network("192.0.2.1/32")
RESERVED = (POOL, ip_network("fd00:88::/64"), GATEWAY)


def rule(action, *networks, protocol=None, ports=(), name="r", names=()):
    return AccessRule(
        name,
        action == "allow",
        tuple(ip_network(network) for network in networks),
        protocol,
        tuple(PortRange(*port) for port in ports),
        tuple(names),
    )


EVERYTHING = rule("allow", "0.0.0.0/0", "::/0", name="everything")
WEB = rule("allow", "10.77.0.80/32", protocol=TCP, ports=[(80, 80), (8000, 8100)], name="web")
NO_SSH = rule("deny", "10.77.0.0/16", protocol=TCP, ports=[(22, 22)], name="no ssh")
PING = rule("allow", "10.77.0.0/16", "fd00:77::/64", protocol="icmp", name="ping")
PEERS = rule("allow", "10.88.0.0/16", name="peers")
ONE_PEER = rule("allow", "10.88.0.7/32", protocol=TCP, name="one peer")
DENY_TEN = rule("deny", "10.0.0.0/8", name="no ten")

DECISIONS = [
    # rules, protocol, address, port, allowed, what the last reason names
    ([], TCP, "10.77.0.80", 80, False, "no rule"),
    ([WEB], TCP, "10.77.0.80", 80, True, "web"),
    ([WEB], TCP, "10.77.0.80", 8000, True, "web"),
    ([WEB], TCP, "10.77.0.80", 8100, True, "web"),
    ([WEB], TCP, "10.77.0.80", 8101, False, "no rule"),
    ([WEB], UDP, "10.77.0.80", 80, False, "no rule"),
    ([WEB], TCP, "10.77.0.81", 80, False, "no rule"),
    ([WEB], TCP, "10.77.0.80", None, False, "no rule"),
    ([NO_SSH, EVERYTHING], TCP, "10.77.3.4", 22, False, "no ssh"),
    ([NO_SSH, EVERYTHING], TCP, "10.77.3.4", 23, True, "everything"),
    ([EVERYTHING, NO_SSH], TCP, "10.77.3.4", 22, True, "everything"),
    ([PING], ICMP, "10.77.3.4", None, True, "ping"),
    ([PING], ICMPV6, "fd00:77::1", None, True, "ping"),
    ([PING], ICMPV6, "10.77.3.4", None, False, "no rule"),
    ([EVERYTHING], TCP, "10.88.0.7", 80, False, "no rule"),
    ([EVERYTHING], TCP, "fd00:88::7", 80, False, "no rule"),
    ([EVERYTHING], TCP, "192.0.2.1", 443, False, "no rule"),
    ([EVERYTHING], TCP, "192.0.2.2", 443, True, "everything"),
    ([EVERYTHING, PEERS], TCP, "10.88.0.7", 80, True, "peers"),
    ([ONE_PEER], TCP, "10.88.0.7", 80, True, "one peer"),
    ([ONE_PEER], TCP, "10.88.0.8", 80, False, "no rule"),
    ([DENY_TEN, PEERS], TCP, "10.88.0.7", 80, False, "no ten"),
]


@pytest.mark.parametrize(("rules", "protocol", "address", "port", "allowed", "reason"), DECISIONS)
def test_decision(rules, protocol, address, port, allowed, reason):
    verdict = explain(compile_rules(rules, RESERVED), protocol, ip_address(address), port)
    assert verdict.allow is allowed
    assert reason in verdict.reasons[-1].text
    assert verdict.reasons[-1].ok is allowed


def test_the_reasons_say_why_a_wide_rule_did_not_count():
    verdict = explain(compile_rules([EVERYTHING], RESERVED), TCP, ip_address("10.88.0.7"), 80)
    assert [(reason.text, reason.path) for reason in verdict.reasons] == [
        (
            "rule 'everything' (0.0.0.0/0, any protocol) covers 10.88.0.7, but 10.88.0.0/16 is reserved: "
            "only a rule written for it opens it",
            "access_control/everything",
        ),
        ("no rule allows it", "access_control"),
    ]


RESOLVED = {
    "intranet.test": (ip_address("10.77.0.80"), ip_address("fd00:77::80")),
    "rebound.test": (ip_address("10.88.0.7"), ip_address("192.0.2.1"), ip_address("10.77.0.9")),
    "many.test": tuple(ip_address(0x0A630000 + number) for number in range(MAX_ADDRESSES + 5)),
}
NAMED = rule("allow", protocol=TCP, ports=[(443, 443)], name="site", names=["intranet.test"])
REBOUND = rule("allow", name="rebound", names=["rebound.test"])
BLOCKED = rule("deny", name="blocked", names=["rebound.test", "gone.test"])
WITH_NAMES = [
    # rules, protocol, address, port, allowed, the last reason
    (
        [NAMED],
        TCP,
        "10.77.0.80",
        443,
        True,
        "rule 'site' (intranet.test is 10.77.0.80, tcp port 443) allows it",
    ),
    (
        [NAMED],
        TCP,
        "fd00:77::80",
        443,
        True,
        "rule 'site' (intranet.test is fd00:77::80, tcp port 443) allows it",
    ),
    ([NAMED], TCP, "10.77.0.80", 80, False, "no rule allows it"),
    ([NAMED], TCP, "10.77.0.81", 443, False, "no rule allows it"),
    (
        [REBOUND],
        TCP,
        "10.77.0.9",
        1,
        True,
        "rule 'rebound' (rebound.test is 10.77.0.9, any protocol) allows it",
    ),
    # Whoever answers for a name does not open other sessions or the gateway.
    ([REBOUND], TCP, "10.88.0.7", 1, False, "no rule allows it"),
    ([REBOUND], TCP, "192.0.2.1", 1, False, "no rule allows it"),
    ([REBOUND, PEERS], TCP, "10.88.0.7", 1, True, "rule 'peers' (10.88.0.0/16, any protocol) allows it"),
    (
        [BLOCKED, PEERS],
        TCP,
        "10.88.0.7",
        1,
        False,
        "rule 'blocked' (rebound.test is 10.88.0.7, any protocol) denies it",
    ),
    ([rule("allow", names=["gone.test"])], TCP, "10.77.0.80", 443, False, "no rule allows it"),
    ([rule("allow", names=["many.test"])], TCP, "10.99.0.31", 1, True, None),
    ([rule("allow", names=["many.test"])], TCP, "10.99.0.32", 1, False, None),
]


@pytest.mark.parametrize(("rules", "protocol", "address", "port", "allowed", "reason"), WITH_NAMES)
def test_rules_for_names(rules, protocol, address, port, allowed, reason):
    verdict = explain(compile_rules(rules, RESERVED, RESOLVED), protocol, ip_address(address), port)
    assert verdict.allow is allowed
    assert reason in (None, verdict.reasons[-1].text)


def test_networks_come_before_names_and_rules_keep_their_order():
    both = rule("allow", "10.1.0.0/16", name="both", names=["intranet.test"])
    compiled = compile_rules([both, DENY_TEN], RESERVED, RESOLVED).compiled
    assert [(entry.origin.name, entry.name, entry.rule.prefix) for entry in compiled] == [
        ("both", "", 16),
        ("both", "intranet.test", 32),
        ("both", "intranet.test", 128),
        ("no ten", "", 8),
    ]


def test_what_the_edge_has_no_room_for_is_denied_and_said():
    hosts = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(edge_link.MAX_RULES - 1)]
    compiled = compile_rules([rule("allow", *hosts), PING, EVERYTHING], RESERVED)
    assert (len(compiled.rules), compiled.omitted) == (edge_link.MAX_RULES, 3)
    verdict = explain(compiled, TCP, ip_address("203.0.113.9"), 80)
    assert [reason.text for reason in verdict.reasons] == [
        f"3 more rules than the {edge_link.MAX_RULES} that a session can have do not count",
        "no rule allows it",
    ]


def test_reserved_are_pools_and_named_addresses():
    own = [
        ip_address(text) for text in ("0.0.0.0", "::", "127.0.0.1", "192.0.2.1", "192.0.2.1", "2001:db8::1")
    ]
    assert reserved_networks([POOL], own) == (POOL, GATEWAY, ip_network("2001:db8::1/128"))


def test_a_compiled_rule_is_field_by_field_what_the_edge_link_carries():
    assert [field.name for field in fields(Rule)] == [field.name for field in fields(edge_link.Rule)]
    compiled = compile_rules([WEB], RESERVED)
    assert compiled.rules == (
        Rule(True, TCP, bytes([10, 77, 0, 80]), 32, 80, 80, False),
        Rule(True, TCP, bytes([10, 77, 0, 80]), 32, 8000, 8100, False),
    )
    assert {entry.origin for entry in compiled.compiled} == {WEB}


# A small world, so that rules meet: 4 bits of address in each family, 3 protocols, 4 ports.
addresses = st.one_of(
    st.integers(0, 15).map(lambda low: IPv4Address(f"10.0.0.{low}")),
    st.integers(0, 15).map(lambda low: IPv6Address(f"fd00::{low:x}")),
)
networks = st.builds(
    lambda address, size: (
        ip_network((int(address), address.max_prefixlen - size), strict=False)
        if address.version == 6
        else ip_network((str(address), 32 - size), strict=False)
    ),
    addresses,
    st.integers(0, 4),
)
port_ranges = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
    lambda pair: PortRange(min(pair), max(pair))
)
named = st.lists(st.sampled_from(["one", "two", "none"]), max_size=2).map(tuple)
rules = st.builds(
    AccessRule,
    name=st.sampled_from("abc"),
    allow=st.booleans(),
    networks=st.lists(networks, min_size=1, max_size=3).map(tuple),
    protocol=st.sampled_from([TCP, UDP]),
    ports=st.lists(port_ranges, max_size=2).map(tuple),
    names=named,
) | st.builds(
    AccessRule,
    name=st.sampled_from("abc"),
    allow=st.booleans(),
    networks=st.lists(networks, min_size=1, max_size=3).map(tuple),
    protocol=st.sampled_from([None, "icmp", 47]),
    names=named,
)


def oracle(written, reserved, resolved, protocol, address, port):
    """The rules as a person reads them: hosts one by one, nothing compiled."""

    def hosts(network):
        return {network[position] for position in range(network.num_addresses)}

    inside_reserved = [hosts(network) for network in reserved]
    for each in written:
        parts = [(hosts(network), False) for network in each.networks]
        parts += [(set(resolved.get(name, ())), True) for name in each.names]
        for members, by_name in parts:
            if address not in members:
                continue
            wanted = {"icmp": ICMP if address.version == 4 else ICMPV6}.get(each.protocol, each.protocol)
            if wanted is not None and wanted != protocol:
                continue
            if each.ports and not any(port is not None and p.low <= port <= p.high for p in each.ports):
                continue
            if not each.allow:
                return False
            for closed in inside_reserved:
                if address in closed and (by_name or not any(members <= other for other in inside_reserved)):
                    break
            else:
                return True
    return False


@given(
    st.lists(rules, max_size=5),
    st.lists(networks, max_size=2),
    st.sampled_from([(TCP, 0), (TCP, 3), (UDP, 1), (UDP, 2), (ICMP, None), (ICMPV6, None), (47, None)]),
    addresses,
    st.fixed_dictionaries({name: st.lists(addresses, max_size=3).map(tuple) for name in ("one", "two")}),
)
def test_explain_agrees_with_reading_the_rules_one_host_at_a_time(written, reserved, what, address, resolved):
    protocol, port = what
    verdict = explain(compile_rules(written, reserved, resolved), protocol, address, port)
    assert verdict.allow is oracle(written, reserved, resolved, protocol, address, port)
    assert verdict.reasons
