"""What a tunnel wants of the machine's name resolution, checked once and for all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from lockgate.protocol.errors import UsageError

Address = IPv4Address | IPv6Address

MAX_SERVERS = 8
"""More than anybody configures; each one that is silent costs a lookup time."""
MAX_DOMAINS = 64
"""Twice the longest list seen at a site; glibc walks the whole list for every unknown name."""
_MAX_NAME = 253  # RFC 1035, section 2.3.4, as text without the last dot
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class DnsWish:
    """servers: the tunnel's, in order, at least one. domains: corporate ones, also the search list, in order.

    interface, ifindex: the tunnel's device; queries to `servers` leave through it and nowhere else.
    raises: UsageError for what `usable_servers` and `usable_domains` would not have let through.
    """

    servers: tuple[Address, ...]
    domains: tuple[str, ...]
    split: bool
    interface: str
    ifindex: int

    def __post_init__(self) -> None:
        if not self.servers or usable_servers(self.servers) != self.servers:
            raise UsageError("these name servers cannot be used")
        if usable_domains(self.domains) != self.domains:
            raise UsageError("these search domains cannot be used")

    @property
    def divided(self) -> bool:
        """Corporate names inside, others outside. Split without any domain means: all names inside."""
        return self.split and bool(self.domains)


def usable_servers(servers: Iterable[str | Address]) -> tuple[Address, ...]:
    """The ones a gateway may give us: unicast addresses of other machines, each once, at most MAX_SERVERS."""
    found: dict[Address, None] = {}
    for text in servers:
        try:
            address = ip_address(text)
        except ValueError:
            continue
        odd = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
        if isinstance(address, IPv6Address):
            # A zone may be any text, a line break included; a mapped address is an IPv4 one in disguise.
            odd = odd or address.scope_id is not None or address.ipv4_mapped is not None
        if not odd and address != IPv4Address("255.255.255.255"):
            found[address] = None
    return tuple(found)[:MAX_SERVERS]


def usable_domains(domains: Iterable[str]) -> tuple[str, ...]:
    """In lower case without dots at the ends, each once, at most MAX_DOMAINS; anything else is left out.

    The text comes from the gateway and ends up in files that programs parse line by line, so only letters,
    digits, hyphens and underscores pass. The root is no domain of anybody's.
    """
    found: dict[str, None] = {}
    for text in domains:
        name = text.strip().lower().removeprefix("*").strip(".")
        if name and len(name) <= _MAX_NAME and all(map(_LABEL.fullmatch, name.split("."))):
            found[name] = None
    return tuple(found)[:MAX_DOMAINS]


def within(name: str, domain: str) -> bool:
    """Whether `name` is `domain` or lies under it; both in lower case without a last dot."""
    return name == domain or name.endswith("." + domain)
