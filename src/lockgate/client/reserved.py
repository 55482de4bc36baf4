"""Addresses that mean this machine, one link or a group: no tunnel can lead to a host that has one.

A gateway that gives one as the inner address, or a network of them to be tunnelled, is mistaken or hostile:
127.0.0.1 on the tunnel's device would let whoever is behind it speak to services that listen for this machine
alone, and 169.254.169.254 is where clouds hand out their machines' credentials.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from lockgate.client.segments import Address, Network, inside

RESERVED: tuple[Network, ...] = (
    IPv4Network("0.0.0.0/8"),  # "this network": RFC 1122, section 3.2.1.3
    IPv4Network("127.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("224.0.0.0/4"),
    IPv4Network("240.0.0.0/4"),  # never given out, 255.255.255.255 among them
    IPv6Network("::/127"),  # unspecified and loopback
    IPv6Network("::ffff:0:0/96"),  # IPv4 in disguise
    IPv6Network("fe80::/10"),
    IPv6Network("ff00::/8"),
)


def is_reserved(address: Address) -> bool:
    return any(address.version == network.version and address in network for network in RESERVED)


def all_reserved(network: Network) -> bool:
    """Whether no address of the network could be behind a gateway."""
    return inside(network, RESERVED)
