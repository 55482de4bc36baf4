"""What no single setting can know: duplicates, overlaps, sizes, things that go nowhere.

What holds for the tree as well is asked of `judges`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lockgate.policy.access import UDP, explain
from lockgate.protocol.edge_link import MAX_RULES
from lockgate.protocol.pulse.config_blocks import MAX_ROUTES
from lockgate.server.config.findings import Finding, Path
from lockgate.server.config.judges.access import judge_ports
from lockgate.server.config.judges.network import (
    NAME_SERVER_SLOTS,
    judge_listeners,
    judge_mtu,
    judge_pools,
)
from lockgate.server.config.judges.times import judge_sign_in
from lockgate.server.config.seed.access import access_rules
from lockgate.server.config.seed.tree import Seed
from lockgate.server.config.values import Network


def check(configuration: Seed) -> list[Finding]:
    """All findings about a tree whose single settings are right."""
    return [
        *judge_listeners(configuration.gateway),
        *judge_pools(configuration.network.pools, configuration.gateway.listen),
        *judge_mtu(configuration.network.mtu, configuration.network.pools),
        *judge_sign_in(configuration.sign_in.guard, configuration.sign_in.argon2),
        *_excluded(configuration),
        *_split_networks(configuration),
        *_precedence(configuration),
        *_name_servers(configuration),
        *_times(configuration),
        *_access(configuration),
    ]


def _excluded(configuration: Seed) -> Iterator[Finding]:
    network = configuration.network
    for position, pool in enumerate(network.pools):
        for excluded in network.split_exclude:
            if pool.overlaps(excluded):
                yield Finding(
                    ("network", "pools", position),
                    f"{pool} overlaps {excluded} of split_exclude, so answers would miss the tunnel",
                    "a pool outside split_exclude",
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
    if len(routes) > MAX_ROUTES:
        yield Finding(
            ("network", "split_include" if network.split_include else "split_exclude"),
            f"split_include and split_exclude name {len(routes)} IPv4 networks",
            f"at most {MAX_ROUTES} together; join neighbours into larger networks",
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


def _times(configuration: Seed) -> Iterator[Finding]:
    sessions = configuration.sessions
    if sessions.idle_seconds >= sessions.length_seconds:
        yield Finding(
            ("sessions", "idle_seconds"),
            f"{sessions.idle_seconds} has no effect: a session is {sessions.length_seconds} seconds long",
            "less than length_seconds, or 0",
            warning=True,
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
        yield from judge_ports(entry.protocol, entry.ports, path)
        for place, network in enumerate(entry.to):
            if network.version not in versions:
                yield Finding(
                    (*path, "to", place),
                    f"{network} matches nothing: there is no IPv{network.version} pool",
                    f"an IPv{network.version} pool in network.pools",
                    warning=True,
                )
    rules = access_rules(configuration)
    if rules.omitted:
        yield Finding(
            ("access",) if configuration.access else ("network", "split_include"),
            f"the rules make {MAX_RULES + rules.omitted} combinations of network and port range",
            f"at most {MAX_RULES}",
        )
