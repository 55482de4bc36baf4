"""Access rules: from what somebody wrote to what the edge checks on every packet.

The edge takes the first compiled rule that covers protocol, address and port; no rule denies. A
destination in a *reserved* network (session pools, the gateway's own addresses) is reached only by
rules compiled with `reserved`:

* an allowing rule has it when its network lies inside a reserved one, that is, when somebody wrote
  the rule for that network. "Allow 0.0.0.0/0" therefore opens the intranet and not the other sessions.
* an allowing rule for a DNS name never has it: whoever answers for the name would choose what it opens.
* a denying rule always has it: what is denied stays denied, also before a later rule that opens a
  reserved network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from types import MappingProxyType

from lockgate.model.access_rule import (
    ANY_PORT,
    AccessRule,
    Address,
    CompiledRule,
    Network,
    PortRange,
    Rule,
    RuleSet,
)
from lockgate.model.decision import Decision, Reason
from lockgate.protocol.edge_link import MAX_RULES

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
# IP protocols whose packets have ports the edge looks at.
WITH_PORTS = frozenset({TCP, UDP})
PROTOCOLS: Mapping[str, int] = MappingProxyType({"tcp": TCP, "udp": UDP, "icmp": ICMP})
"""Those that a question may name."""

# Addresses of one name that count; answers of the field's largest services have about a dozen.
MAX_ADDRESSES = 32
NOTHING_ALLOWS = "no access rule for your roles allows it"
"""What somebody hears of "no match denies"; the same for a name that has no address."""
NOTHING_RESOLVED: Mapping[str, Sequence[Address]] = MappingProxyType({})


def reserved_networks(pools: Iterable[Network], own: Iterable[Address]) -> tuple[Network, ...]:
    """Networks that only a rule written for them opens: session pools and the gateway's own addresses.

    own: addresses the gateway listens on; wildcards and loopback are left out (the edge drops
    loopback destinations whatever the rules say).
    """
    hosts = (ip_network(address) for address in own if not (address.is_unspecified or address.is_loopback))
    return tuple(dict.fromkeys((*pools, *hosts)))


def compile_rules(
    rules: Iterable[AccessRule],
    reserved: Sequence[Network],
    resolved: Mapping[str, Sequence[Address]] = NOTHING_RESOLVED,
) -> RuleSet:
    """One compiled rule per network or address and port range, in the order written.

    resolved: DNS name in lower case → its addresses now; a name without any covers nothing.
    What is more than the edge takes is cut off at the end, where "no rule" denies.
    """
    compiled: list[CompiledRule] = []
    omitted = 0
    for rule in rules:
        for network, name in _targets(rule, resolved):
            opens = not rule.allow or (not name and any(inside(network, outer) for outer in reserved))
            for low, high in _port_pairs(rule.ports):
                if len(compiled) >= MAX_RULES:
                    omitted += 1
                    continue
                compiled.append(
                    CompiledRule(
                        Rule(
                            allow=rule.allow,
                            protocol=_protocol_number(rule.protocol, network),
                            address=network.network_address.packed,
                            prefix=network.prefixlen,
                            port_low=low,
                            port_high=high,
                            reserved=opens,
                        ),
                        rule,
                        name,
                    )
                )
    return RuleSet(tuple(compiled), tuple(reserved), omitted)


def _targets(rule: AccessRule, resolved: Mapping[str, Sequence[Address]]) -> Iterator[tuple[Network, str]]:
    """Networks as written, then the addresses of names, each with its name."""
    for network in rule.networks:
        yield network, ""
    for name in rule.names:
        for address in resolved.get(name, ())[:MAX_ADDRESSES]:
            yield ip_network(address), name


def explain(rules: RuleSet, protocol: int, address: Address, port: int | None) -> Decision:
    """Whether a session's packet to `address` may pass, and what decided it.

    protocol: IP protocol number. port: of the remote end, None where the protocol has none.
    """
    reserved = next((network for network in rules.reserved if address in network), None)
    reasons: list[Reason] = []
    for entry in rules.compiled:
        if not _matches(entry.rule, protocol, address, port):
            continue
        path = f"access_control/{entry.origin.name}"
        if reserved is not None and not entry.rule.reserved:
            text = (
                f"{describe(entry)} covers {address}, but {reserved} is reserved: "
                "only a rule written for it opens it"
            )
            said = "it lies in a range that is kept for the gateway and its clients"
            reasons.append(Reason(text, path, None, said))
            continue
        allow = entry.rule.allow
        verb = "allows" if allow else "denies"
        said = f"an access rule for your roles {verb} it"
        return Decision(allow, (*reasons, Reason(f"{describe(entry)} {verb} it", path, allow, said)))
    if rules.omitted:
        text = f"{rules.omitted} more rules than the {MAX_RULES} that a session can have do not count"
        reasons.append(Reason(text, "access_control"))
    return Decision(False, (*reasons, Reason("no rule allows it", "access_control", False, NOTHING_ALLOWS)))


def describe(entry: CompiledRule) -> str:
    """The configured rule and the part of it that was compiled, for people."""
    rule = entry.rule
    network = _network(rule)
    any_port = (rule.port_low, rule.port_high) == ANY_PORT
    ports = "" if any_port else f" port {PortRange(rule.port_low, rule.port_high)}"
    protocol = "any protocol" if rule.protocol is None else protocol_name(rule.protocol)
    target = f"{entry.name} is {network.network_address}" if entry.name else str(network)
    return f"rule {entry.origin.name!r} ({target}, {protocol}{ports})"


def protocol_name(protocol: int) -> str:
    """What people call an IP protocol."""
    known = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmp"}
    return known.get(protocol, f"protocol {protocol}")


def _protocol_number(protocol: int | str | None, network: Network) -> int | None:
    if protocol == "icmp":
        return ICMP if isinstance(network, IPv4Network) else ICMPV6
    assert not isinstance(protocol, str)
    return protocol


def _port_pairs(ports: Sequence[PortRange]) -> list[tuple[int, int]]:
    return [(ports_.low, ports_.high) for ports_ in ports] or [ANY_PORT]


def inside(inner: Network, outer: Network) -> bool:
    """Whether all of `inner` belongs to `outer`."""
    return (
        inner.version == outer.version
        and inner.prefixlen >= outer.prefixlen
        and inner.network_address in outer
    )


def _network(rule: Rule) -> Network:
    return ip_network((rule.address, rule.prefix))


def _matches(rule: Rule, protocol: int, address: Address, port: int | None) -> bool:
    if rule.protocol is not None and rule.protocol != protocol:
        return False
    if address not in _network(rule):
        return False
    if (rule.port_low, rule.port_high) == ANY_PORT:
        return True
    return port is not None and protocol in WITH_PORTS and rule.port_low <= port <= rule.port_high
