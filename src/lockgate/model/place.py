"""Where somebody comes from: addresses as text, in one form, and whether two are of one place."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """An IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2) is that IPv4 address. Raises ValueError."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def same_network(one: str, other: str, prefix4: int, prefix6: int) -> bool:
    """Whether two addresses share that many bits; never for what is no address."""
    try:
        first, second = plain_address(one), plain_address(other)
    except ValueError:
        return False
    prefix = prefix4 if first.version == 4 else prefix6
    return second in ip_network((first.packed, prefix), strict=False)
