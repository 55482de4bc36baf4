"""Nested networks as a flat list: who decides about which addresses when the most specific network wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias, TypeVar

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")


class Segment(NamedTuple):
    """All addresses from `first` to `last`, both included, of one IP version."""

    version: int
    first: int
    last: int

    def text(self) -> str:
        """As nftables writes it: `10.0.0.0-10.0.0.255`, or one address."""
        kind = IPv4Address if self.version == 4 else IPv6Address
        if self.first == self.last:
            return str(kind(self.first))
        return f"{kind(self.first)}-{kind(self.last)}"


def flatten(entries: Mapping[Network, T]) -> list[tuple[Segment, T]]:
    """The segments in which one value applies, ascending, IPv4 first; neighbours with equal values are one.

    Addresses in no network are in no segment.
    """
    found: list[tuple[Segment, T]] = []

    def add(version: int, first: int, last: int, value: T) -> None:
        if first > last:
            return
        if found:
            before, same = found[-1]
            if before.version == version and before.last + 1 == first and same == value:
                found[-1] = (Segment(version, before.first, last), value)
                return
        found.append((Segment(version, first, last), value))

    for version in (4, 6):
        # Two networks either lie inside each other or have nothing in common, so open ones form a stack.
        open_: list[tuple[int, T]] = []
        at = 0
        for network, value in sorted(
            ((network, value) for network, value in entries.items() if network.version == version),
            key=lambda entry: (int(entry[0].network_address), entry[0].prefixlen),
        ):
            start = int(network.network_address)
            while open_ and open_[-1][0] < start:
                last, outer = open_.pop()
                add(version, at, last, outer)
                at = last + 1
            if open_:
                add(version, at, start - 1, open_[-1][1])
            at = start
            open_.append((int(network.broadcast_address), value))
        while open_:
            last, outer = open_.pop()
            add(version, at, last, outer)
            at = last + 1
    return found


def deciding(networks: Iterable[Network], address: Address) -> Network | None:
    """The most specific of the networks that holds the address."""
    holding = [network for network in networks if network.version == address.version and address in network]
    return max(holding, key=lambda network: network.prefixlen, default=None)


def inside(network: Network, others: Iterable[Network]) -> bool:
    """True when one of the others holds all of the network."""
    return any(_subnet(network, other) for other in others)


def _subnet(network: Network, other: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)
