"""What the machine must look like for a tunnel, decided from the gateway's configuration and local facts.

`make_plan` is pure; `client.linux` carries a plan out. Every decision leaves a sentence in `decisions`.

Who gets an address is decided by the most specific network that holds it, over one list of networks. Where
two claims name the same network, the later of these wins:

1. everything, in a full tunnel: both IP versions, into the tunnel if it carries that version, else nowhere;
2. the gateway's includes;
3. the tunnel's own networks, from the inner addresses and their masks;
4. the gateway's excludes: out of the tunnel;
5. local networks, where they are allowed (below): out of the tunnel, by their own interface only;
6. fe80::/10: never into a tunnel, since it means something else on every link;
7. single hosts: inner DNS servers, into the tunnel.

**Full tunnel**: no includes at all, or includes that cover a whole IP version, be it with split tunnelling
on. It is then full for both versions: a version that the tunnel does not carry is blocked, not forgotten.

**Local networks.** In a full tunnel, `local_subnet_access` alone decides. It opens what an interface of this
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

**A pool or include that overlaps the local network**: the tunnel wins. The way to the gateway still works: its
packets carry our mark, a rule sends marked packets to the main table before any other, and the next hop there
is a neighbour on the link, for which no route is asked.

**The gateway's outer address** may lie in an include (others reach it through the tunnel, we by the mark), but
not in the tunnel's own networks: no gateway can be behind itself, so such an answer is a lie or a mistake.

**MTU**: below 576 refused, above 9000 taken as 9000. Below 1280 with an inner IPv6 address: taken as 1280, the
least an IPv6 link must carry (RFC 8200, section 5); the outer packets may then be fragmented.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    collapse_addresses,
    ip_network,
)

from lockgate.client.linux.dns.wish import DnsWish, usable_domains, usable_servers
from lockgate.client.network_plan import (
    MARK,
    PREFERENCE,
    TABLE,
    FirewallWish,
    Interface,
    LocalFacts,
    LocalInterface,
    NetworkPlan,
    Peer,
    Route,
    Rule,
    Way,
)
from lockgate.client.segments import Address, Network, Segment, deciding, flatten, inside
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.pulse.config import TunnelConfig

__all__ = [
    "LocalFacts",
    "LocalInterface",
    "NetworkPlan",
    "Peer",
    "Route",
    "Rule",
    "Way",
    "make_plan",
]

MTU_MIN, MTU_MAX, MTU_MIN6 = 576, 9000, 1280
MAX_NETWORKS = 4096
"""Routes of one plan. A configuration of 16 KiB has room for a quarter of this."""

ALL4, ALL6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")
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
# A mask shorter than this on the inner address would make the tunnel full by the back door.
_SHORTEST_INNER = {4: 8, 6: 32}


@dataclass(slots=True)
class _Draft:
    """Routes and sentences while a plan is made."""

    carried: frozenset[int]
    routes: dict[Network, Route] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        if sentence not in self.decisions:
            self.decisions.append(sentence)

    def warn(self, code: str, summary: str) -> None:
        self.warnings.append(Problem(code, summary, "Tell the administrator of the gateway."))

    def enclose(self, network: Network, reason: str) -> None:
        """Into the tunnel, or nowhere when the tunnel does not carry this IP version."""
        way = Way.TUNNEL if network.version in self.carried else Way.NOWHERE
        self.routes[network] = Route(network, way, reason)
        where = (
            "goes through the tunnel" if way is Way.TUNNEL else "is blocked: the tunnel has no such address"
        )
        self.say(f"{network} {where} ({reason}).")

    def leave_out(self, network: Network, reason: str, interfaces: tuple[str, ...] = ()) -> None:
        known = self.routes.get(network)
        if known is not None and known.way is Way.OUTSIDE:
            if not known.interfaces:
                return
            interfaces = tuple(dict.fromkeys((*known.interfaces, *interfaces)))
        self.routes[network] = Route(network, Way.OUTSIDE, reason, interfaces)
        by = f" by {', '.join(interfaces)}" if interfaces else ""
        self.say(f"{network} stays outside the tunnel{by} ({reason}).")


def make_plan(config: TunnelConfig, facts: LocalFacts) -> NetworkPlan:
    """Decide; the module's text has the rules.

    raises: ProblemError no-inner-address, mtu-absurd, gateway-inside-tunnel, too-many-networks.
    """
    addresses: list[Interface] = []
    if config.address4 is not None:
        addresses.append(IPv4Interface((config.address4, 32)))
    if config.address6 is not None and facts.ipv6:
        addresses.append(IPv6Interface((config.address6.ip, 128)))
    draft = _Draft(frozenset(address.version for address in addresses))
    if config.address6 is not None and not facts.ipv6:
        draft.warn("no-ipv6", "The gateway offers an IPv6 address, but IPv6 is switched off on this machine.")
    if not addresses:
        raise ProblemError(
            Problem(
                "no-inner-address",
                "The gateway gave this machine no inner address that it could use.",
                "Tell the administrator of the gateway.",
            )
        )
    mtu = _mtu(config.mtu, draft)
    inner = _inner_networks(config, draft)
    _check_peers(facts.peers, inner)

    full = _is_full(config, draft)
    servers = _dns_servers(config, draft)
    _includes(config, full, draft)
    for network in inner:
        draft.enclose(network, "the tunnel's own network")
    _excludes(config, draft)
    local: tuple[str, ...] = ()
    if full:
        if config.local_subnet_access:
            local = _open_local_networks(config, facts, inner, servers, draft)
    else:
        _yield_to_local_routes(config, facts, inner, draft)
    _spare_link_local(draft)
    _reach_servers(servers, full, draft)
    if not facts.ipv6:
        draft.routes = {network: route for network, route in draft.routes.items() if network.version == 4}
    if len(draft.routes) > MAX_NETWORKS:
        raise ProblemError(
            Problem(
                "too-many-networks",
                f"The gateway's configuration makes {len(draft.routes)} routes; at most {MAX_NETWORKS} are taken.",
                "Tell the administrator of the gateway to summarise the split-tunnel networks.",
            )
        )
    routes = sorted(
        draft.routes.values(),
        key=lambda route: (
            route.network.version,
            int(route.network.network_address),
            route.network.prefixlen,
        ),
    )
    versions = (4, 6) if facts.ipv6 else (4,)
    return NetworkPlan(
        tun_name=facts.tun_name,
        tun_index=facts.tun_index,
        addresses=tuple(addresses),
        mtu=mtu,
        full_tunnel=full,
        routes=tuple(routes),
        rules=tuple(rule for version in versions for rule in _rules(version)),
        firewall=_firewall(full, local, _guarded(addresses, facts, draft), draft),
        dns=_dns(servers, config, full, facts, draft),
        peers=facts.peers,
        disconnect_on_change=config.disconnect_on_route_change,
        decisions=tuple(draft.decisions),
        warnings=tuple(draft.warnings),
    )


def _rules(version: int) -> tuple[Rule, Rule]:
    """Marked packets look in main; all others in ours first, where a throw route sends them on.

    The second rule leaves marked packets out for the case that main has no way for them: a packet for the
    gateway inside the tunnel to that gateway would go round and round.
    """
    return (
        Rule(version, PREFERENCE, 254, MARK, inverted=False),
        Rule(version, PREFERENCE + 1, TABLE, MARK, inverted=True),
    )


def _mtu(wanted: int, draft: _Draft) -> int:
    if wanted < MTU_MIN:
        raise ProblemError(
            Problem(
                "mtu-absurd",
                f"The gateway wants packets of at most {wanted} bytes in the tunnel; less than {MTU_MIN} is no use.",
                "Tell the administrator of the gateway to set an MTU from 1280 to 1500.",
            )
        )
    if wanted > MTU_MAX:
        draft.warn("mtu-clamped", f"The gateway wants an MTU of {wanted}; {MTU_MAX} is used.")
        return MTU_MAX
    if wanted < MTU_MIN6 and 6 in draft.carried:
        draft.warn(
            "mtu-clamped", f"The gateway wants an MTU of {wanted}; IPv6 needs {MTU_MIN6}, which is used."
        )
        return MTU_MIN6
    return wanted


def _inner_networks(config: TunnelConfig, draft: _Draft) -> list[Network]:
    found: list[Network] = []
    if config.address4 is not None:
        found.append(_network4(config.address4, config.netmask4, draft))
    if config.address6 is not None:
        network6 = config.address6.network
        if network6.prefixlen < _SHORTEST_INNER[6]:
            draft.warn(
                "inner-mask", f"The inner network {network6} is absurdly large; only the address is used."
            )
            network6 = IPv6Network(config.address6.ip)
        found.append(network6)
    return found


def _network4(address: IPv4Address, netmask: IPv4Address, draft: _Draft) -> IPv4Network:
    host = IPv4Network(address)
    inverse = int(netmask) ^ 0xFFFFFFFF
    prefix = 32 - inverse.bit_length()
    # Ones, then zeros: anything else is no mask at all.
    if inverse & (inverse + 1) or prefix < _SHORTEST_INNER[4]:
        draft.warn("inner-mask", f"The inner netmask {netmask} is no use; only the address is used.")
        return host
    return host.supernet(new_prefix=prefix)


def _check_peers(peers: Iterable[Peer], inner: list[Network]) -> None:
    for peer in peers:
        around = deciding(inner, peer.address)
        if around is not None:
            raise ProblemError(
                Problem(
                    "gateway-inside-tunnel",
                    f"The gateway's address {peer.address} lies in the tunnel's own network {around}, "
                    "where no gateway can be.",
                    "The name was answered wrongly, perhaps on purpose: connect from another network, "
                    "and tell the administrator of the gateway if it stays so.",
                )
            )


def _is_full(config: TunnelConfig, draft: _Draft) -> bool:
    if not config.include:
        draft.say("All traffic belongs to the tunnel: the gateway names no networks.")
        return True
    for version in (4, 6):
        # One network left after joining them, with nothing cut off: that is the whole version.
        if _whole(version) in _collapsed(config.include, version):
            draft.say(f"All traffic belongs to the tunnel: the gateway's networks cover all of IPv{version}.")
            return True
    return False


def _whole(version: int) -> Network:
    return ALL4 if version == 4 else ALL6


def _collapsed(networks: Iterable[Network], version: int) -> list[Network]:
    if version == 4:
        return list(collapse_addresses(entry for entry in networks if isinstance(entry, IPv4Network)))
    return list(collapse_addresses(entry for entry in networks if isinstance(entry, IPv6Network)))


def _dns_servers(config: TunnelConfig, draft: _Draft) -> tuple[Address, ...]:
    servers = usable_servers(config.dns)
    for server in dict.fromkeys(config.dns):
        if server not in servers:
            draft.warn("dns-unusable", f"The DNS server {server} that the gateway names cannot be behind it.")
        elif server.version not in draft.carried:
            draft.warn(
                "dns-unusable", f"The tunnel cannot reach the DNS server {server}: it has no such address."
            )
    return tuple(server for server in servers if server.version in draft.carried)


def _dns(
    servers: tuple[Address, ...], config: TunnelConfig, full: bool, facts: LocalFacts, draft: _Draft
) -> DnsWish | None:
    domains = usable_domains(config.search_domains)
    if not all(usable_domains([domain]) for domain in config.search_domains):
        draft.warn("domains-unusable", "Some search domains that the gateway names are no domain names.")
    if not servers:
        return None
    return DnsWish(servers, domains, not full, facts.tun_name, facts.tun_index)


def _includes(config: TunnelConfig, full: bool, draft: _Draft) -> None:
    if full:
        for version in (4, 6):
            draft.enclose(_whole(version), "all traffic")
    for network in config.include:
        if inside(network, (LINK_LOCAL6,)):
            draft.warn("include-ignored", f"The gateway includes {network}, which never leaves a link.")
        else:
            draft.enclose(network, "all traffic" if network in (ALL4, ALL6) else "included by the gateway")


def _excludes(config: TunnelConfig, draft: _Draft) -> None:
    for network in config.exclude:
        if network in (ALL4, ALL6):
            draft.warn("exclude-ignored", f"The gateway excludes {network}, all there is; that is ignored.")
        elif not any(inside(network, (entry,)) or inside(entry, (network,)) for entry in draft.routes):
            draft.say(f"{network} is excluded, but was not in the tunnel anyway.")
        else:
            draft.leave_out(network, "excluded by the gateway")


def _open_local_networks(
    config: TunnelConfig,
    facts: LocalFacts,
    inner: list[Network],
    servers: tuple[Address, ...],
    draft: _Draft,
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


def _yield_to_local_routes(
    config: TunnelConfig, facts: LocalFacts, inner: list[Network], draft: _Draft
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


def _spare_link_local(draft: _Draft) -> None:
    around = deciding(
        (entry for entry in draft.routes if entry.prefixlen <= LINK_LOCAL6.prefixlen), LINK_LOCAL6[0]
    )
    if around is not None and draft.routes[around].way is not Way.OUTSIDE:
        draft.leave_out(LINK_LOCAL6, "link-local")


def _reach_servers(servers: tuple[Address, ...], full: bool, draft: _Draft) -> None:
    for server in servers:
        around = deciding(draft.routes, server)
        if not full or around is None or draft.routes[around].way is not Way.TUNNEL:
            draft.enclose(ip_network(server), "DNS server of the tunnel")


def _guarded(addresses: list[Interface], facts: LocalFacts, draft: _Draft) -> tuple[Address, ...]:
    """Without one that another interface has too: guarding it would cut the machine off from the gateway."""
    found = []
    for address in addresses:
        names = [interface.name for interface in facts.interfaces if address.ip in interface.addresses]
        if names:
            draft.warn("inner-address-taken", f"The inner address {address.ip} is also that of {names[0]}.")
        else:
            found.append(address.ip)
    return tuple(found)


def _never_routed(segment: Segment) -> bool:
    """Link-local addresses of no interface in particular: what a link needs of them is in every firewall."""
    return segment.version == 6 and IPv6Address(segment.first) in LINK_LOCAL6


def _firewall(
    full: bool, local: tuple[str, ...], guarded: tuple[Address, ...], draft: _Draft
) -> FirewallWish:
    outside, enclosed = [], []
    ways = {network: (route.way is Way.OUTSIDE, route.interfaces) for network, route in draft.routes.items()}
    for segment, (is_outside, interfaces) in flatten(ways):
        if not is_outside:
            enclosed.append(segment)
        elif full and (interfaces or not _never_routed(segment)):
            outside.append((segment, interfaces))
    return FirewallWish(full, tuple(enclosed), tuple(outside), local, guarded)
