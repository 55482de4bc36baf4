"""What the machine must look like for a tunnel, decided from the gateway's configuration and local facts.

`make_plan` is pure; `client.linux` carries a plan out. Every decision leaves a sentence in `decisions`.

Who gets an address is decided by the most specific network that holds it, over one list of networks. Where
two claims name the same network, the later of these wins:

1. everything, in a full tunnel: both IP versions, into the tunnel if it carries that version, else nowhere;
2. the gateway's includes;
3. the tunnel's own networks, from the inner addresses and their masks;
4. the gateway's excludes: out of the tunnel;
5. local networks, where they are allowed: out of the tunnel, by their own interface only;
6. fe80::/10: never into a tunnel, since it means something else on every link;
7. single hosts: inner DNS servers, into the tunnel.

**Full tunnel**: no includes at all, or includes that cover a whole IP version, be it with split tunnelling
on. It is then full for both versions: a version that the tunnel does not carry is blocked, not forgotten.

**Local networks**: `local_networks` has the rules.

**A pool or include that overlaps the local network**: the tunnel wins. The way to the gateway still works: its
packets carry our mark, a rule sends marked packets to the main table before any other, and the next hop there
is a neighbour on the link, for which no route is asked.

**The gateway's outer address** may lie in an include (others reach it through the tunnel, we by the mark), but
not in the tunnel's own networks: no gateway can be behind itself, so such an answer is a lie or a mistake.

**What means this machine, a link or a group** (`reserved`): no inner address, and no include or exclude of its own.

**MTU**: below 576 refused, above 9000 taken as 9000. Below 1280 with an inner IPv6 address: taken as 1280, the
least an IPv6 link must carry (RFC 8200, section 5); the outer packets may then be fragmented.
"""

from __future__ import annotations

from collections.abc import Iterable
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
from lockgate.client.local_networks import (
    LINK_LOCAL6,
    open_local_networks,
    spare_link_local,
    yield_to_local_routes,
)
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
from lockgate.client.plan_draft import Draft
from lockgate.client.reserved import all_reserved, is_reserved
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
# A mask shorter than this on the inner address would make the tunnel full by the back door.
_SHORTEST_INNER = {4: 8, 6: 32}


def make_plan(config: TunnelConfig, facts: LocalFacts) -> NetworkPlan:
    """Decide; the module's text has the rules.

    raises: ProblemError no-inner-address, inner-address-absurd, mtu-absurd, gateway-inside-tunnel,
            too-many-networks.
    """
    addresses: list[Interface] = []
    if config.address4 is not None:
        addresses.append(IPv4Interface((config.address4, 32)))
    if config.address6 is not None and facts.ipv6:
        addresses.append(IPv6Interface((config.address6.ip, 128)))
    draft = Draft(frozenset(address.version for address in addresses))
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
    _check_addresses(addresses)
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
            local = open_local_networks(config, facts, inner, servers, draft)
    else:
        yield_to_local_routes(config, facts, inner, draft)
    spare_link_local(draft)
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


def _check_addresses(addresses: Iterable[Interface]) -> None:
    for address in addresses:
        if is_reserved(address.ip):
            raise ProblemError(
                Problem(
                    "inner-address-absurd",
                    f"The gateway gave this machine the inner address {address.ip}, which no machine can have.",
                    "Do not trust this gateway; if it is your own, correct its address pool.",
                )
            )


def _mtu(wanted: int, draft: Draft) -> int:
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


def _inner_networks(config: TunnelConfig, draft: Draft) -> list[Network]:
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


def _network4(address: IPv4Address, netmask: IPv4Address, draft: Draft) -> IPv4Network:
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


def _is_full(config: TunnelConfig, draft: Draft) -> bool:
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


def _dns_servers(config: TunnelConfig, draft: Draft) -> tuple[Address, ...]:
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
    servers: tuple[Address, ...], config: TunnelConfig, full: bool, facts: LocalFacts, draft: Draft
) -> DnsWish | None:
    domains = usable_domains(config.search_domains)
    if not all(usable_domains([domain]) for domain in config.search_domains):
        draft.warn("domains-unusable", "Some search domains that the gateway names are no domain names.")
    if not servers:
        return None
    return DnsWish(servers, domains, not full, facts.tun_name, facts.tun_index)


def _includes(config: TunnelConfig, full: bool, draft: Draft) -> None:
    if full:
        for version in (4, 6):
            draft.enclose(_whole(version), "all traffic")
    for network in config.include:
        if all_reserved(network):
            draft.warn("include-ignored", f"The gateway includes {network}, where no host behind it can be.")
        else:
            draft.enclose(network, "all traffic" if network in (ALL4, ALL6) else "included by the gateway")


def _excludes(config: TunnelConfig, draft: Draft) -> None:
    everything = {
        version for version in (4, 6) if _whole(version) in _collapsed(config.exclude, version)
    }  # also in pieces
    for network in config.exclude:
        if network.version in everything:
            draft.warn(
                "exclude-ignored",
                f"The gateway excludes all of IPv{network.version}; {network}, too, is not excluded.",
            )
        elif all_reserved(network):
            draft.warn("exclude-ignored", f"The gateway excludes {network}, where no host can be.")
        elif not any(inside(network, (entry,)) or inside(entry, (network,)) for entry in draft.routes):
            draft.say(f"{network} is excluded, but was not in the tunnel anyway.")
        else:
            draft.leave_out(network, "excluded by the gateway")


def _reach_servers(servers: tuple[Address, ...], full: bool, draft: Draft) -> None:
    for server in servers:
        around = deciding(draft.routes, server)
        if not full or around is None or draft.routes[around].way is not Way.TUNNEL:
            draft.enclose(ip_network(server), "DNS server of the tunnel")


def _guarded(addresses: list[Interface], facts: LocalFacts, draft: Draft) -> tuple[Address, ...]:
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


def _firewall(full: bool, local: tuple[str, ...], guarded: tuple[Address, ...], draft: Draft) -> FirewallWish:
    outside, enclosed = [], []
    ways = {network: (route.way is Way.OUTSIDE, route.interfaces) for network, route in draft.routes.items()}
    for segment, (is_outside, interfaces) in flatten(ways):
        if not is_outside:
            enclosed.append(segment)
        elif full and (interfaces or not _never_routed(segment)):
            outside.append((segment, interfaces))
    return FirewallWish(full, tuple(enclosed), tuple(outside), local, guarded)
