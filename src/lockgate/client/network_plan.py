"""The plan of a tunnel's place in this machine, and the facts it is made from: values only.

`plan.make_plan` decides, `linux.network` carries out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal, TypeAlias

from lockgate.client.linux.dns.wish import DnsWish
from lockgate.client.segments import Address, Network, Segment, deciding
from lockgate.model.problem import Problem

Interface: TypeAlias = IPv4Interface | IPv6Interface

MARK = 0x4C47
"""On every packet of ours towards a gateway, and on nobody else's: setting one needs CAP_NET_ADMIN."""
TABLE = 0x4C47
"""Routing table of the tunnel."""
PREFERENCE = 19000
"""Our rules have preferences 19000 to 19010: behind the local table (0), before main (32766)."""
LAST_PREFERENCE = 19010


class Way(Enum):
    """Where packets for a network go."""

    TUNNEL = "tunnel"
    OUTSIDE = "outside"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Peer:
    """One outer endpoint that our own sockets talk to: the gateway's TCP and UDP ports, or a proxy."""

    address: Address
    port: int
    protocol: Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class LocalInterface:
    """An interface that is up, neither loopback nor our TUN.

    addresses:  its own.
    networks:   what is on the link, from its addresses and their prefix lengths.
    """

    name: str
    index: int
    addresses: tuple[Address, ...] = ()
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalFacts:
    """What a plan depends on beside the configuration (read by `client.linux.facts`).

    peers:   outer endpoints of the connection, all that may be tried while it lives.
    routes:  unicast routes of the main table with their interface, default routes left out.
    ipv6:    whether this machine has IPv6 at all.
    """

    tun_name: str
    tun_index: int
    peers: tuple[Peer, ...] = ()
    interfaces: tuple[LocalInterface, ...] = ()
    routes: tuple[tuple[Network, str], ...] = ()
    ipv6: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """Packets for `network` go this `way`, unless a route for a smaller network says otherwise.

    interfaces: with OUTSIDE, the only ones they may leave through; empty is any.
    """

    network: Network
    way: Way
    reason: str
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing policy rule: packets with `mark` (`inverted`: without it) look in `table`."""

    version: int
    preference: int
    table: int
    mark: int
    inverted: bool


@dataclass(frozen=True, slots=True)
class FirewallWish:
    """What must not leave whatever the routes say; `client.linux.firewall` writes it as nftables.

    full:      everything that nothing else allows is dropped, names (port 53, 853) everywhere outside.
    enclosed:  segments that leave through the TUN or not at all.
    outside:   segments that are out of the tunnel, with the interfaces they may leave through (empty: any).
               Only of interest in a full tunnel.
    local:     interfaces with local networks that are open, for multicast on the link.
    guarded:   inner addresses, for which nothing may arrive but through the TUN (CVE-2019-14899).
    """

    full: bool
    enclosed: tuple[Segment, ...]
    outside: tuple[tuple[Segment, tuple[str, ...]], ...]
    local: tuple[str, ...]
    guarded: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The machine with the tunnel.

    addresses:   of the TUN, as /32 and /128.
    mtu:         of the TUN, at most; the path may allow less.
    routes:      of table TABLE; one a network, IPv4 first. For every TUNNEL route there is, in the kernel,
                 an unreachable one of worse metric, so that nothing leaks while the device is away.
    dns:         None when the gateway named no server that could be asked.
    peers:       what our marked packets may reach.
    disconnect_on_change: somebody else's change to routes ends the connection, instead of being put back.
    decisions:   sentences for a person, in the order in which they were taken.
    warnings:    what the gateway asked for and does not get as it asked.
    """

    tun_name: str
    tun_index: int
    addresses: tuple[Interface, ...]
    mtu: int
    full_tunnel: bool
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]
    firewall: FirewallWish
    dns: DnsWish | None
    peers: tuple[Peer, ...]
    disconnect_on_change: bool = False
    decisions: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def way(self, address: Address) -> Way | None:
        """Where packets for the address go; None: the plan does not care, the machine's own routes do."""
        found = deciding((route.network for route in self.routes), address)
        return next((route.way for route in self.routes if route.network == found), None)
