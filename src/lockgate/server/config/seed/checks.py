"""What no single setting can know: duplicates, overlaps, sizes, things that go nowhere.

Each check yields findings: an error keeps the configuration from being used, a warning says what
will not work as somebody probably hopes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lockgate.policy.access import UDP, WITH_PORTS, explain
from lockgate.server.config.seed.access import access_rules
from lockgate.server.config.seed.lines import Path
from lockgate.server.config.seed.tree import Seed
from lockgate.server.config.values import Endpoint, Network

# One ROUTES block counts its entries in one byte (if-t-tls, the configuration frame).
MAX_IPV4_ROUTES = 255
# `link::MAX_RULES` of the edge.
MAX_COMPILED_RULES = 4096
# RFC 8200, section 5: a link that carries IPv6 takes packets of 1280 bytes.
IPV6_MTU = 1280
# Network, gateway, one client, broadcast; IPv6: router anycast, gateway, one client.
LONGEST_PREFIX = {4: 30, 6: 126}
# Clients of the openconnect kind have three slots for name servers of both families together.
NAME_SERVER_SLOTS = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the setting at `path`."""

    path: Path
    wrong: str
    allowed: str
    warning: bool = False


def check(configuration: Seed) -> list[Finding]:
    """All findings about a tree whose single settings are right."""
    return [
        *_listeners(configuration),
        *_pools(configuration),
        *_split_networks(configuration),
        *_precedence(configuration),
        *_name_servers(configuration),
        *_mtu(configuration),
        *_times(configuration),
        *_access(configuration),
    ]


def _listeners(configuration: Seed) -> Iterator[Finding]:
    gateway = configuration.gateway
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


def _collide(one: Endpoint, other: Endpoint) -> bool:
    return (
        one.port == other.port
        and one.address.version == other.address.version
        and (one.address == other.address or one.address.is_unspecified or other.address.is_unspecified)
    )


def _pools(configuration: Seed) -> Iterator[Finding]:
    network = configuration.network
    for position, pool in enumerate(network.pools):
        path: Path = ("network", "pools", position)
        longest = LONGEST_PREFIX[pool.version]
        if pool.prefixlen > longest:
            yield Finding(path, f"{pool} has no room for a client", f"a network of at least /{longest}")
        if pool.is_loopback or pool.is_multicast or pool.is_link_local or pool.prefixlen == 0:
            yield Finding(path, f"{pool} is not a network for hosts", "a private network of your own")
        for earlier in network.pools[:position]:
            if pool.overlaps(earlier):
                yield Finding(path, f"{pool} overlaps the pool {earlier}", "pools without common addresses")
        for excluded in network.split_exclude:
            if pool.overlaps(excluded):
                yield Finding(
                    path,
                    f"{pool} overlaps {excluded} of split_exclude, so answers would miss the tunnel",
                    "a pool outside split_exclude",
                )
        for endpoint in configuration.gateway.listen:
            if endpoint.address in pool:
                yield Finding(
                    path, f"{pool} contains the listening address {endpoint.address}", "a network of its own"
                )


def _split_networks(configuration: Seed) -> Iterator[Finding]:
    network = configuration.network
    for name in ("split_include", "split_exclude"):
        networks: Sequence[Network] = getattr(network, name)
        for position, entry in enumerate(networks):
            if entry in networks[:position]:
                yield Finding(
                    ("network", name, position), f"{entry} stands there twice", "every network once"
                )
    routes = [entry for entry in (*network.split_include, *network.split_exclude) if entry.version == 4]
    if len(routes) > MAX_IPV4_ROUTES:
        yield Finding(
            ("network", "split_include" if network.split_include else "split_exclude"),
            f"split_include and split_exclude name {len(routes)} IPv4 networks",
            f"at most {MAX_IPV4_ROUTES} together; join neighbours into larger networks",
        )
    versions = {pool.version for pool in network.pools}
    for position, entry in enumerate(network.split_include):
        if entry.version not in versions:
            yield Finding(
                ("network", "split_include", position),
                f"{entry} cannot be reached: there is no IPv{entry.version} pool",
                f"an IPv{entry.version} pool in network.pools",
                warning=True,
            )


def _precedence(configuration: Seed) -> Iterator[Finding]:
    network = configuration.network
    if network.local_subnet_access and network.split_include:
        yield Finding(
            ("network", "local_subnet_access"),
            "true has no effect: with split_include the local network is outside the tunnel anyway",
            "false, or an empty split_include",
            warning=True,
        )
    if network.route_precedence == "endpoint":
        if network.local_subnet_access:
            yield Finding(
                ("network", "local_subnet_access"),
                'true has no effect: with route_precedence = "endpoint" all local routes win',
                'false, or route_precedence = "tunnel"',
                warning=True,
            )
        if network.traffic_enforcement:
            yield Finding(
                ("network", "route_precedence"),
                "traffic_enforcement drops what the client machine's own routes take outside the tunnel",
                'traffic_enforcement = false with route_precedence = "endpoint"',
                warning=True,
            )


def _name_servers(configuration: Seed) -> Iterator[Finding]:
    network = configuration.network
    rules = access_rules(configuration)
    for position, server in enumerate(network.dns):
        path: Path = ("network", "dns", position)
        if server in network.dns[:position]:
            yield Finding(path, f"{server} stands there twice", "every name server once")
        elif position >= NAME_SERVER_SLOTS:
            yield Finding(
                path,
                f"some clients use the first {NAME_SERVER_SLOTS} name servers only",
                f"{NAME_SERVER_SLOTS} name servers",
                warning=True,
            )
        included = not network.split_include or any(
            server.version == entry.version and server in entry for entry in network.split_include
        )
        if not included:
            yield Finding(
                path,
                f"{server} is outside split_include: questions to it do not go through the tunnel",
                f"{server}/{server.max_prefixlen} in split_include",
                warning=True,
            )
        elif not explain(rules, UDP, server, 53).allow:
            yield Finding(
                path,
                f"no access rule lets users ask {server}",
                "an [[access]] rule that allows udp and tcp port 53 to it",
                warning=True,
            )


def _mtu(configuration: Seed) -> Iterator[Finding]:
    network = configuration.network
    if network.mtu < IPV6_MTU and any(pool.version == 6 for pool in network.pools):
        yield Finding(
            ("network", "mtu"),
            f"{network.mtu} is too small for IPv6",
            f"at least {IPV6_MTU} with an IPv6 pool",
        )


def _times(configuration: Seed) -> Iterator[Finding]:
    sessions = configuration.sessions
    if sessions.idle_seconds >= sessions.length_seconds:
        yield Finding(
            ("sessions", "idle_seconds"),
            f"{sessions.idle_seconds} has no effect: a session is {sessions.length_seconds} seconds long",
            "less than length_seconds, or 0",
            warning=True,
        )
    guard = configuration.sign_in.guard
    if guard.lock_seconds_max < guard.lock_seconds:
        yield Finding(
            ("sign_in", "guard", "lock_seconds_max"),
            f"{guard.lock_seconds_max} is less than lock_seconds ({guard.lock_seconds})",
            "at least lock_seconds",
        )
    argon2 = configuration.sign_in.argon2
    if argon2.memory_kib < 8 * argon2.parallelism:
        # RFC 9106, section 3.1
        yield Finding(
            ("sign_in", "argon2", "memory_kib"),
            f"{argon2.memory_kib} is too little for {argon2.parallelism} lanes",
            "at least 8 KiB a lane",
        )


def _access(configuration: Seed) -> Iterator[Finding]:
    versions = {pool.version for pool in configuration.network.pools}
    names: set[str] = set()
    for position, entry in enumerate(configuration.access):
        path: Path = ("access", position)
        if entry.name in names:
            yield Finding(
                (*path, "name"), f"{entry.name!r} is the name of an earlier rule", "every name once"
            )
        names.add(entry.name)
        if entry.ports and entry.protocol not in ("tcp", "udp", *WITH_PORTS):
            yield Finding(
                (*path, "ports"),
                f"protocol {entry.protocol!r} has no ports to check",
                'ports only with protocol = "tcp" or "udp"; write one rule for each',
            )
        for place, network in enumerate(entry.to):
            if network.version not in versions:
                yield Finding(
                    (*path, "to", place),
                    f"{network} matches nothing: there is no IPv{network.version} pool",
                    f"an IPv{network.version} pool in network.pools",
                    warning=True,
                )
    rules = access_rules(configuration)
    compiled = len(rules.compiled) + rules.omitted
    if compiled > MAX_COMPILED_RULES:
        yield Finding(
            ("access",) if configuration.access else ("network", "split_include"),
            f"the rules make {compiled} combinations of network and port range",
            f"at most {MAX_COMPILED_RULES}",
        )
