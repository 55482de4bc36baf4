"""What a plan depends on, read from the kernel: interfaces with their networks, and the main table's routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from lockgate.client.linux.firewall import PLAIN_NAME
from lockgate.client.linux.netlink import FAMILY, UNICAST, entry_of, has_ipv6, kernel
from lockgate.client.network_plan import LocalFacts, LocalInterface, Peer
from lockgate.client.segments import Address, Network

_MAIN = 254  # linux/rtnetlink.h
_LOOPBACK, _UP = 0x8, 0x1  # linux/if.h


async def read_facts(tun_name: str, tun_index: int, peers: Iterable[Peer]) -> LocalFacts:
    """The facts as they are now. peers: outer endpoints of the connection, all that may be tried.

    Interfaces that are down, loopback, the TUN, and those whose name means something in nftables' language
    (an asterisk, a quote) are left out: nothing is opened for them.
    raises: ProblemError network-refused.
    """
    return await asyncio.to_thread(_read, tun_name, tun_index, tuple(peers))


def _read(tun_name: str, tun_index: int, peers: tuple[Peer, ...]) -> LocalFacts:
    versions = (4, 6) if has_ipv6() else (4,)
    with kernel() as ip:
        names = {
            link["index"]: link.get_attr("IFLA_IFNAME")
            for link in ip.get_links()
            if link["flags"] & _UP and not link["flags"] & _LOOPBACK and link["index"] != tun_index
        }
        names = {index: name for index, name in names.items() if PLAIN_NAME.fullmatch(name)}
        addresses: dict[int, list[Address]] = {index: [] for index in names}
        networks: dict[int, list[Network]] = {index: [] for index in names}
        for message in ip.get_addr():
            if message["index"] not in names:
                continue
            own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            addresses[message["index"]].append(ip_address(own))
            # On a point-to-point link the other end's: then that is what is there.
            other = message.get_attr("IFA_ADDRESS") or own
            networks[message["index"]].append(ip_interface((other, message["prefixlen"])).network)
        routes: list[tuple[Network, str]] = []
        for version in versions:
            for message in ip.get_routes(family=FAMILY[version], table=_MAIN):
                entry = entry_of(message, version)
                if entry.kind != UNICAST or entry.network.prefixlen == 0:
                    continue
                hops = message.get_attr("RTA_MULTIPATH") or ()
                indexes = {entry.oif, *(hop["oif"] for hop in hops)}
                routes += [(entry.network, names[index]) for index in sorted(indexes & names.keys())]
    return LocalFacts(
        tun_name=tun_name,
        tun_index=tun_index,
        peers=peers,
        interfaces=tuple(
            LocalInterface(
                name,
                index,
                tuple(addresses[index]),
                tuple(dict.fromkeys(networks[index])),
            )
            for index, name in sorted(names.items())
        ),
        routes=tuple(dict.fromkeys(routes)),
        ipv6=6 in versions,
    )
