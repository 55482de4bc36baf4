"""Listening addresses, client networks, and what clients are told about addresses, names and routes.

What begins with `judge_` is asked about config.toml too (`seed.checks`), where it stands under the same keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from lockgate.policy.access import UDP
from lockgate.protocol.pulse.config_blocks import MAX_ROUTES
from lockgate.server.config.findings import Finding, Path
from lockgate.server.config.judges.applies import most_per_role, names_nobody
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import Gateway
from lockgate.server.config.tree.users import ConnectionProfile
from lockgate.server.config.values import Address, AddressRange, Endpoint, Network

# RFC 8200, section 5: a link that carries IPv6 takes packets of 1280 bytes.
IPV6_MTU = 1280
# Network, gateway, one client, broadcast; IPv6: router anycast, gateway, one client.
LONGEST_PREFIX = {4: 30, 6: 126}
# Clients of the openconnect kind have three slots for name servers of both families together.
NAME_SERVER_SLOTS = 3


def judge(tree: Configuration) -> Iterator[Finding]:
    yield from judge_listeners(tree.gateway)
    yield from judge_pools(tree.network.pools, tree.gateway.listen)
    yield from judge_mtu(tree.network.mtu, tree.network.pools)
    for profile in tree.connection_profiles:
        path: Path = ("connection_profiles", profile.name)
        yield from _addresses(tree, profile, path)
        yield from _name_servers(tree, profile, path)
        yield from _profile(tree, profile, path)
        yield from names_nobody(profile.applies, path)
    yield from _split_networks(tree)
    yield from _precedence(tree)


def _collide(one: Endpoint, other: Endpoint) -> bool:
    """Whether both cannot be listened on at the same time."""
    return (
        one.port == other.port
        and one.address.version == other.address.version
        and (one.address == other.address or one.address.is_unspecified or other.address.is_unspecified)
    )


def judge_listeners(gateway: Gateway) -> Iterator[Finding]:
    seen: list[Endpoint] = []
    for position, endpoint in enumerate(gateway.listen):
        other = next((known for known in seen if _collide(endpoint, known)), None)
        if other is not None:
            yield Finding(
                ("gateway", "listen", position),
                f"{endpoint} is taken already by {other}",
                "every address and port once; 0.0.0.0 and [::] take the port on all addresses of their family",
            )
        seen.append(endpoint)
    other = next((known for known in seen if _collide(gateway.admin_listen, known)), None)
    if other is not None:
        yield Finding(
            ("gateway", "admin_listen"),
            f"{gateway.admin_listen} is where clients connect ({other})",
            "an address or port of its own",
        )


def judge_pools(pools: Sequence[Network], listen: Iterable[Endpoint]) -> Iterator[Finding]:
    for position, pool in enumerate(pools):
        path: Path = ("network", "pools", position)
        longest = LONGEST_PREFIX[pool.version]
        if pool.prefixlen > longest:
            yield Finding(path, f"{pool} has no room for a client", f"a network of at least /{longest}")
        if pool.is_loopback or pool.is_multicast or pool.is_link_local or pool.prefixlen == 0:
            yield Finding(path, f"{pool} is not a network for hosts", "a private network of your own")
        for earlier in pools[:position]:
            if pool.overlaps(earlier):
                yield Finding(path, f"{pool} overlaps the pool {earlier}", "pools without common addresses")
        for endpoint in listen:
            if endpoint.address in pool:
                yield Finding(
                    path, f"{pool} contains the listening address {endpoint.address}", "a network of its own"
                )


def judge_mtu(mtu: int, pools: Iterable[Network]) -> Iterator[Finding]:
    if mtu < IPV6_MTU and any(pool.version == 6 for pool in pools):
        yield Finding(
            ("network", "mtu"),
            f"{mtu} is too small for IPv6",
            f"at least {IPV6_MTU} with an IPv6 pool",
        )


def _addresses(tree: Configuration, profile: ConnectionProfile, path: Path) -> Iterator[Finding]:
    taken: list[tuple[Address, Address]] = []
    for position, entry in enumerate(profile.addresses):
        here = (*path, "addresses", position)
        first, last = _ends(entry)
        if not any(first in pool and last in pool for pool in tree.network.pools):
            yield Finding(
                here,
                f"{entry} is not inside the client networks",
                "a part of one of network.pools: " + ", ".join(map(str, tree.network.pools)),
            )
        if any(_overlap((first, last), other) for other in taken):
            yield Finding(here, f"{entry} has addresses of an earlier entry", "every address once")
        taken.append((first, last))


def _ends(entry: Network | AddressRange) -> tuple[Address, Address]:
    if isinstance(entry, AddressRange):
        return entry.first, entry.last
    return entry.network_address, entry.broadcast_address


def _overlap(one: tuple[Address, Address], other: tuple[Address, Address]) -> bool:
    if one[0].version != other[0].version:
        return False
    return int(one[0]) <= int(other[1]) and int(other[0]) <= int(one[1])


def _name_servers(tree: Configuration, profile: ConnectionProfile, path: Path) -> Iterator[Finding]:
    for position, server in enumerate(profile.dns):
        here = (*path, "dns", position)
        if server in profile.dns[:position]:
            yield Finding(here, f"{server} stands there twice", "every name server once")
        elif position >= NAME_SERVER_SLOTS:
            yield Finding(
                here,
                f"some clients use the first {NAME_SERVER_SLOTS} name servers only",
                f"{NAME_SERVER_SLOTS} name servers",
                warning=True,
            )
        elif not _may_be_asked(tree, server):
            yield Finding(
                here,
                f"no access rule lets users ask {server}",
                "a rule of access_control that allows udp and tcp port 53 to it",
                warning=True,
            )


def _may_be_asked(tree: Configuration, server: Address) -> bool:
    return any(
        rule.action == "allow"
        and rule.protocol in ("any", "udp", UDP)
        and (not rule.ports or any(ports.low <= 53 <= ports.high for ports in rule.ports))
        and any(
            not isinstance(target, str) and target.version == server.version and server in target
            for target in rule.to
        )
        for rule in tree.access_control
    )


def _profile(tree: Configuration, profile: ConnectionProfile, path: Path) -> Iterator[Finding]:
    if profile.transport == "esp" and not tree.esp.enabled:
        yield Finding(
            (*path, "transport"),
            "esp has no effect: ESP is switched off, so packets use TLS",
            '"ssl", or esp.enabled = true',
            warning=True,
        )
    six = any(_ends(entry)[0].version == 6 for entry in profile.addresses or tree.network.pools)
    if profile.mtu and profile.mtu < IPV6_MTU and six:
        yield Finding(
            (*path, "mtu"), f"{profile.mtu} is too small for IPv6", f"at least {IPV6_MTU} with IPv6 addresses"
        )
    elif profile.mtu and profile.mtu < 576:
        yield Finding((*path, "mtu"), f"{profile.mtu} is too small", "0, or at least 576")
    if profile.mtu > tree.network.mtu:
        yield Finding(
            (*path, "mtu"),
            f"{profile.mtu} is more than the tunnel interface takes",
            f"at most network.mtu ({tree.network.mtu})",
        )
    proxy = profile.proxy
    if proxy.mode == "pac" and not proxy.pac_url.startswith(("http://", "https://")):
        yield Finding(
            (*path, "proxy", "pac_url"),
            'is no address of a configuration file, which mode = "pac" needs',
            "an http:// or https:// address",
        )
    if proxy.mode == "manual" and not _host_and_port(proxy.server):
        yield Finding(
            (*path, "proxy", "server"), 'is no server, which mode = "manual" needs', "a text host:port"
        )


def _host_and_port(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        return False
    if host.startswith("[") and host.endswith("]"):
        try:
            return ip_address(host[1:-1]).version == 6
        except ValueError:
            return False
    return ":" not in host and not any(character.isspace() or character in "/@" for character in host)


def _split_networks(tree: Configuration) -> Iterator[Finding]:
    versions = {pool.version for pool in tree.network.pools}
    for entry in tree.split_tunneling_networks:
        path: Path = ("split_tunneling_networks", entry.name)
        seen: set[Network | str] = set()
        for position, network in enumerate(entry.networks):
            here = (*path, "networks", position)
            if network in seen:
                yield Finding(here, f"{network} stands there twice", "every network once")
            seen.add(network)
            if isinstance(network, str):
                if network == tree.gateway.hostname:
                    yield Finding(
                        here,
                        f"{network} is this gateway, which clients reach outside their tunnel in any case",
                        "names of machines behind the gateway, or of others that are to stay outside",
                    )
            elif entry.action == "exclude":
                pool = next((pool for pool in tree.network.pools if pool.overlaps(network)), None)
                if pool is not None:
                    yield Finding(
                        here,
                        f"{network} overlaps the client network {pool}, so answers would miss the tunnel",
                        "networks outside network.pools",
                    )
            elif network.version not in versions:
                yield Finding(
                    here,
                    f"{network} cannot be reached: there is no IPv{network.version} pool",
                    f"an IPv{network.version} pool in network.pools",
                    warning=True,
                )
        yield from names_nobody(entry.applies, path)
    weights = [
        (entry.applies, sum(isinstance(each, str) or each.version == 4 for each in entry.networks))
        for entry in tree.split_tunneling_networks
    ]
    most, role = most_per_role(weights, [role.name for role in tree.roles])
    if most > MAX_ROUTES:
        yield Finding(
            ("split_tunneling_networks",),
            f"the entries that apply to the role {role} name {most} IPv4 networks and names",
            f"at most {MAX_ROUTES} together; join neighbours into larger networks",
        )


def _precedence(tree: Configuration) -> Iterator[Finding]:
    includes = any(entry.action == "include" for entry in tree.split_tunneling_networks)
    for role in tree.roles:
        vpn = role.vpn
        path: Path = ("roles", role.name, "vpn")
        split = vpn.split_tunneling == "enabled" and includes
        if vpn.local_subnet_access and split:
            yield Finding(
                (*path, "local_subnet_access"),
                "true has no effect: with split tunnelling the local network is outside the tunnel anyway",
                'false, or split_tunneling = "disabled"',
                warning=True,
            )
        if vpn.route_precedence != "endpoint":
            continue
        if vpn.local_subnet_access:
            yield Finding(
                (*path, "local_subnet_access"),
                'true has no effect: with route_precedence = "endpoint" all local routes win',
                'false, or route_precedence = "tunnel"',
                warning=True,
            )
        if vpn.traffic_enforcement_ipv4 or vpn.traffic_enforcement_ipv6:
            yield Finding(
                (*path, "route_precedence"),
                "traffic enforcement drops what the client machine's own routes take outside the tunnel",
                'no traffic enforcement with route_precedence = "endpoint"',
                warning=True,
            )
