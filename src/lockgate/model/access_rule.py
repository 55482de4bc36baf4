"""Access rules: as somebody wrote them, and as the edge checks them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

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
class AccessRule:
    """One rule as configured. The first rule that matches decides; no match denies."""

    name: str
    allow: bool
    networks: tuple[Network, ...]
    protocol: int | str | None = None  # number, None for any, "icmp" for ICMP or ICMPv6 by family
    ports: tuple[PortRange, ...] = ()  # of the remote end; empty is any
    # Made because nobody wrote a rule: never opens reserved networks.
    implied: bool = False


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
    """A compiled rule and the configured one it came from."""

    rule: Rule
    origin: AccessRule


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules of a session, in order, and the networks that only a rule written for them opens."""

    compiled: tuple[CompiledRule, ...]
    reserved: tuple[Network, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What goes to the edge."""
        return tuple(entry.rule for entry in self.compiled)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and what decided it, in the order it was looked at."""

    allow: bool
    reasons: tuple[str, ...]
