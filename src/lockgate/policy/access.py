"""Access rules: from what somebody wrote to what the edge checks on every packet.

The edge takes the first compiled rule that covers protocol, address and port; no rule denies. A
destination in a *reserved* network (session pools, the gateway's own addresses) is reached only by
rules compiled with `reserved`:

* an allowing rule has it when its network lies inside a reserved one, that is, when somebody wrote
  the rule for that network. "Allow 0.0.0.0/0" therefore opens the intranet and not the other sessions.
* a denying rule always has it: what is denied stays denied, also before a later rule that opens a
  reserved network.
* implied rules (the default without any written rule) never have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

from lockgate.model.access_rule import (
    ANY_PORT,
    AccessRule,
    CompiledRule,
    Network,
    PortRange,
    Rule,
    RuleSet,
    Verdict,
)

Address = IPv4Address | IPv6Address

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
# IP protocols whose packets have ports the edge looks at.
WITH_PORTS = frozenset({TCP, UDP})

EVERYTHING: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def reserved_networks(pools: Iterable[Network], own: Iterable[Address]) -> tuple[Network, ...]:
    """Networks that only a rule written for them opens: session pools and the gateway's own addresses.

    own: addresses the gateway listens on; wildcards and loopback are left out (the edge drops
    loopback destinations whatever the rules say).
    """
    hosts = (ip_network(address) for address in own if not (address.is_unspecified or address.is_loopback))
    return tuple(dict.fromkeys((*pools, *hosts)))


def implied_rules(split_include: Sequence[Network]) -> tuple[AccessRule, ...]:
    """What a signed-in user may reach when no rule is written: the tunnelled networks, else everything."""
    if split_include:
        return (AccessRule("default: split_include", True, tuple(split_include), implied=True),)
    return (AccessRule("default: everything behind the gateway", True, EVERYTHING, implied=True),)


def compile_rules(rules: Sequence[AccessRule], reserved: Sequence[Network]) -> RuleSet:
    """One compiled rule per network and port range, in the order written."""
    compiled = tuple(
        CompiledRule(
            Rule(
                allow=rule.allow,
                protocol=_protocol_number(rule.protocol, network),
                address=network.network_address.packed,
                prefix=network.prefixlen,
                port_low=low,
                port_high=high,
                reserved=_reaches_reserved(rule, network, reserved),
            ),
            rule,
        )
        for rule in rules
        for network in rule.networks
        for low, high in _port_pairs(rule.ports)
    )
    return RuleSet(compiled, tuple(reserved))


def explain(rules: RuleSet, protocol: int, address: Address, port: int | None) -> Verdict:
    """Whether a session's packet to `address` may pass, and what decided it.

    protocol: IP protocol number. port: of the remote end, None where the protocol has none.
    """
    reserved = next((network for network in rules.reserved if _covers(network, address)), None)
    reasons: list[str] = []
    for entry in rules.compiled:
        if not _matches(entry.rule, protocol, address, port):
            continue
        if reserved is not None and not entry.rule.reserved:
            reasons.append(
                f"{describe(entry)} covers {address}, but {reserved} is reserved: "
                "only a rule written for it opens it"
            )
            continue
        verb = "allows" if entry.rule.allow else "denies"
        return Verdict(entry.rule.allow, (*reasons, f"{describe(entry)} {verb} it"))
    return Verdict(False, (*reasons, "no rule allows it"))


def describe(entry: CompiledRule) -> str:
    """The configured rule and the part of it that was compiled, for people."""
    rule = entry.rule
    network = _network(rule)
    ports = (
        ""
        if (rule.port_low, rule.port_high) == ANY_PORT
        else f" port {PortRange(rule.port_low, rule.port_high)}"
    )
    protocol = {None: "any protocol", ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmp"}.get(
        rule.protocol, f"protocol {rule.protocol}"
    )
    return f"rule {entry.origin.name!r} ({network}, {protocol}{ports})"


def _protocol_number(protocol: int | str | None, network: Network) -> int | None:
    if protocol == "icmp":
        return ICMP if isinstance(network, IPv4Network) else ICMPV6
    assert not isinstance(protocol, str)
    return protocol


def _port_pairs(ports: Sequence[PortRange]) -> list[tuple[int, int]]:
    return [(ports_.low, ports_.high) for ports_ in ports] or [ANY_PORT]


def _reaches_reserved(rule: AccessRule, network: Network, reserved: Sequence[Network]) -> bool:
    if not rule.allow:
        return True
    return not rule.implied and any(_inside(network, outer) for outer in reserved)


def _inside(inner: Network, outer: Network) -> bool:
    return (
        inner.version == outer.version
        and inner.prefixlen >= outer.prefixlen
        and inner.network_address in outer
    )


def _covers(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def _network(rule: Rule) -> Network:
    return ip_network((rule.address, rule.prefix))


def _matches(rule: Rule, protocol: int, address: Address, port: int | None) -> bool:
    if rule.protocol is not None and rule.protocol != protocol:
        return False
    if not _covers(_network(rule), address):
        return False
    if (rule.port_low, rule.port_high) == ANY_PORT:
        return True
    return port is not None and protocol in WITH_PORTS and rule.port_low <= port <= rule.port_high
