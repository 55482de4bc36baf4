"""Addresses that mean this machine, one link or a group: no host behind a gateway has one, whoever says so."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

RESERVED: tuple[IPv4Network | IPv6Network, ...] = (
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


def is_reserved(address: IPv4Address | IPv6Address) -> bool:
    return any(address.version == network.version and address in network for network in RESERVED)
