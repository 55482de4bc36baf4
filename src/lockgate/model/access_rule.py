"""Access rules: as somebody wrote them, and as the edge checks them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ANY_PORT = (0, 65535)


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `low` .. `high`, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses `first` .. `last` of one IP version, both included."""

    first: Address
    last: Address

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One rule as configured. The first rule that matches decides; no match denies."""

    name: str
    allow: bool
    networks: tuple[Network, ...]
    protocol: int | str | None = None  # number, None for any, "icmp" for ICMP or ICMPv6 by family
    ports: tuple[PortRange, ...] = ()  # of the remote end; empty is any
    names: tuple[str, ...] = ()  # DNS names whose addresses it covers as well, in lower case


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule, field by field what the edge link carries."""

    allow: bool
    protocol: int | None
    address: bytes  # 4 or 16
    prefix: int
    port_low: int
    port_high: int
    reserved: bool  # also reaches reserved networks


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A compiled rule and what it came from. name: the DNS name that had this address, "" for a network."""

    rule: Rule
    origin: AccessRule
    name: str = ""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules of a session, in order, and the networks that only a rule written for them opens.

    omitted: how many more there would have been than the edge takes; they count as "no rule", which denies.
    """

    compiled: tuple[CompiledRule, ...]
    reserved: tuple[Network, ...]
    omitted: int = 0

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What goes to the edge."""
        return tuple(entry.rule for entry in self.compiled)
