"""Split tunnelling: which networks clients are told to send through the tunnel, names among them.

**Who wins.** Of all entries that hold an address the most specific one decides; of two for the same network the
exclude. A name counts as the single addresses that the gateway's name servers give for it, so an exclude by name
beats any include of a network around it, an include by name beats any exclude of a network around it, and an
address that is both in an included and in an excluded name stays outside.

**What a name never means**: reserved addresses (`model.reserved`), clients' own networks, an address of the
gateway, a name server of the tunnel. Whoever answers for a name would else cut clients off, or take their
questions out of the tunnel. And never a network: a name moves single addresses.

**A name without an address** includes and excludes nothing. With includes that amount to nothing the tunnel has
the clients' own networks alone: a name that cannot be resolved does not send everything through the tunnel.

**How many.** Clients are told MAX_ROUTES networks of each IP version. Networks as configured come first (the judge
of a commit makes them fit), then addresses of included names, then of excluded ones, in the order of the names:
what finds no room goes through the tunnel rather than past it, as far as that can be chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_address, ip_network

from lockgate.model.access_rule import Address, Network
from lockgate.model.policy import Policy
from lockgate.model.reserved import is_reserved
from lockgate.policy.access import MAX_ADDRESSES, inside
from lockgate.policy.effective import Effective
from lockgate.protocol.pulse.config_blocks import MAX_ROUTES

NO_NAMES: frozenset[str] = frozenset()
VERSIONS = (4, 6)


@dataclass(frozen=True, slots=True)
class Split:
    """What clients with a set of roles are told now.

    include:  through the tunnel; empty sends everything. exclude: outside. IPv4 stands before IPv6.
    answered: all names among them have been asked. Before that a client with a tunnel keeps what it has.
    omitted:  networks and addresses that found no room.
    """

    include: tuple[Network, ...] = ()
    exclude: tuple[Network, ...] = ()
    answered: bool = True
    omitted: int = 0

    def decides(self, address: Address) -> tuple[bool, Network | None]:
        """Whether packets for the address go through the tunnel, and the network that says so, if one does."""
        host = ip_network(address)
        around = [
            (network.prefixlen, not through, network)
            for through, networks in ((True, self.include), (False, self.exclude))
            for network in networks
            if inside(host, network)
        ]
        if not around:
            return not self.include, None
        _, outside, network = max(around, key=lambda entry: entry[:2])
        return not outside, network


def split_of(
    policy: Policy,
    mine: Effective,
    resolved: Mapping[str, Sequence[Address]],
    answered: Set[str] = NO_NAMES,
) -> Split:
    """What somebody with these settings is told.

    resolved: DNS name in lower case → its addresses now. answered: names that were asked, with or without success.
    """
    never = _never(policy, mine, resolved)
    exclude_hosts = _hosts(mine.exclude_names, resolved, never)
    outside = frozenset(exclude_hosts)
    include_hosts = [host for host in _hosts(mine.include_names, resolved, never) if host not in outside]
    include: dict[Network, None] = {}
    exclude: dict[Network, None] = {}
    omitted = 0
    for version in VERSIONS:
        room = MAX_ROUTES
        # Includes before excludes: what finds no room goes through the tunnel rather than past it.
        for told, entries in (
            (include, _glued(_with_pools(policy, mine), version, room)),
            (exclude, _glued(mine.excludes, version, room)),
            (include, include_hosts),
            (exclude, exclude_hosts),
        ):
            of_version = [each for each in entries if each.version == version and each not in told]
            told.update(dict.fromkeys(of_version[:room]))
            omitted += max(len(of_version) - room, 0)
            room = max(room - len(of_version), 0)
    names = frozenset((*mine.include_names, *mine.exclude_names))
    return Split(tuple(include), tuple(exclude), names <= answered, omitted)


def _with_pools(policy: Policy, mine: Effective) -> tuple[Network, ...]:
    """The networks that clients send through the tunnel; empty is everything.

    A client that is told of no network of an IP version sends all of that version through the tunnel. Where only
    the other version is split, or names alone are included, it is told of its own pool instead.
    """
    if not mine.includes and not mine.include_names:
        return ()
    versions = {network.version for network in mine.includes}
    return (*mine.includes, *(pool for pool in policy.pools if pool.version not in versions))


def _never(policy: Policy, mine: Effective, resolved: Mapping[str, Sequence[Address]]) -> tuple[Network, ...]:
    """What a name cannot move, beside reserved addresses."""
    own: list[Address] = [*resolved.get(policy.gateway_name, ()), *mine.profile.dns]
    with suppress(ValueError):  # it is a name more often than an address
        own.append(ip_address(policy.gateway_name))
    return (*policy.reserved, *map(ip_network, own))


def _hosts(
    names: Iterable[str], resolved: Mapping[str, Sequence[Address]], never: Sequence[Network]
) -> list[Network]:
    found: dict[Network, None] = {}
    for name in sorted(names):
        for address in resolved.get(name, ())[: 2 * MAX_ADDRESSES]:  # of each IP version
            host = ip_network(address)
            if not is_reserved(address) and not any(inside(host, network) for network in never):
                found[host] = None
    return list(found)


def _glued(networks: Iterable[Network], version: int, room: int) -> Sequence[Network]:
    """Those of one IP version; neighbours are joined where there is no room for all."""
    found = [each for each in networks if each.version == version]
    return found if len(found) <= room else list(collapse_addresses(found))  # type: ignore[type-var]
