"""Which networks around this machine stay reachable beside a tunnel.

In a full tunnel, `local_subnet_access` alone decides. It opens what an interface of this
machine really has of RFC 1918, 169.254.0.0/16, fc00::/7 and fe80::/10, through that interface. Never a public
range: whoever runs an access point chooses the "local" network, and could take any address out of the tunnel
(TunnelCrack, CVE-2023-36672). Not 100.64.0.0/10 either: beyond the first hop it belongs to strangers, other
customers of the provider. Not more than a /16 (IPv6: a /64) at a time, or one DHCP answer would take 10.0.0.0/8
with all that lies behind the tunnel. Never what the tunnel owns: its own networks, its DNS servers, and
includes that are named beside 0.0.0.0/0.

In a split tunnel, includes are what the tunnel owns, so `local_subnet_access` changes nothing. There,
precedence counts: with `tunnel_routes_first`, or with enforcement for that IP version, includes win over any
local route. Otherwise (precedence "endpoint") a local route wins where it is more specific than the include
around it. That is the administrator's choice and can be used by whoever gives out routes by DHCP.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from lockgate.client.network_plan import LocalFacts, Way
from lockgate.client.plan_draft import Draft
from lockgate.client.segments import Address, Network, deciding, inside
from lockgate.protocol.pulse.config import TunnelConfig

LINK_LOCAL6 = IPv6Network("fe80::/10")
PRIVATE: tuple[Network, ...] = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("169.254.0.0/16"),
    IPv6Network("fc00::/7"),
    LINK_LOCAL6,
)
# A local network may be this large; see the module's text.
_LARGEST_LOCAL = {4: 16, 6: 64}
# An include with a shorter prefix is a way of saying "everything", not a network that somebody owns.
_SHORTEST_OWNED = {4: 8, 6: 7}


def open_local_networks(
    config: TunnelConfig,
    facts: LocalFacts,
    inner: list[Network],
    servers: tuple[Address, ...],
    draft: Draft,
) -> tuple[str, ...]:
    """Returns the interfaces with something open."""
    owned = [*inner, *(network for network in config.include if _owned(network))]
    hosts: list[Address] = [*servers, *config.wins, *([config.gateway4] if config.gateway4 else [])]
    opened: list[str] = []
    for interface in facts.interfaces:
        for network in interface.networks:
            if network.prefixlen == network.max_prefixlen:
                continue  # a single address: nobody else is there
            if not inside(network, PRIVATE):
                draft.say(f"{network} on {interface.name} stays closed: not a private range.")
            elif network.prefixlen < _LARGEST_LOCAL[network.version]:
                draft.say(f"{network} on {interface.name} stays closed: too large for a local network.")
            elif inside(network, owned):
                draft.say(f"{network} on {interface.name} stays closed: it belongs to the tunnel.")
            else:
                draft.leave_out(network, "local network", (interface.name,))
                opened.append(interface.name)
    # Smaller networks that the tunnel owns are routes of their own already; its hosts are not.
    for host in hosts:
        around = deciding(draft.routes, host)
        if around is not None and draft.routes[around].way is Way.OUTSIDE and draft.routes[around].interfaces:
            draft.enclose(ip_network(host), "a host behind the gateway")
    return tuple(dict.fromkeys(opened))


def _owned(network: Network) -> bool:
    return network.prefixlen >= _SHORTEST_OWNED[network.version]


def yield_to_local_routes(
    config: TunnelConfig, facts: LocalFacts, inner: list[Network], draft: Draft
) -> None:
    """Precedence "endpoint": the machine's own, more specific routes win."""
    enforced = {4: config.enforce4, 6: config.enforce6}
    local: dict[Network, list[str]] = {}
    for network, name in facts.routes:
        local.setdefault(network, []).append(name)
    for interface in facts.interfaces:
        for network in interface.networks:
            local.setdefault(network, []).append(interface.name)
    ours = dict(draft.routes)
    for network, names in local.items():
        around = deciding(
            (entry for entry in ours if entry.prefixlen <= network.prefixlen), network.network_address
        )
        if around is None or ours[around].way is Way.OUTSIDE:
            continue
        by = f"{network} on {names[0]}"
        if config.tunnel_routes_first or enforced[network.version]:
            draft.say(f"{by}, a local route, counts less than {around}: the tunnel's routes come first.")
        elif around == network or inside(network, inner):
            draft.say(f"{by}, a local route, counts less than {around}: the tunnel has the same network.")
        else:
            draft.leave_out(network, "local route, more specific", tuple(dict.fromkeys(names)))


def spare_link_local(draft: Draft) -> None:
    around = deciding(
        (entry for entry in draft.routes if entry.prefixlen <= LINK_LOCAL6.prefixlen), LINK_LOCAL6[0]
    )
    if around is not None and draft.routes[around].way is not Way.OUTSIDE:
        draft.leave_out(LINK_LOCAL6, "link-local")
