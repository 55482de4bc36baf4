"""The tree's access rules in the terms of `policy.access`."""

from __future__ import annotations

from lockgate.model.access_rule import AccessRule, RuleSet
from lockgate.policy import access
from lockgate.server.config.tree import Access, Configuration
from lockgate.server.config.values import Network

_PROTOCOLS: dict[int | str, int | str | None] = {
    "any": None,
    "tcp": access.TCP,
    "udp": access.UDP,
    "icmp": "icmp",
}


def reserved_networks(configuration: Configuration) -> tuple[Network, ...]:
    """Session pools and the addresses the gateway listens on by name."""
    gateway = configuration.gateway
    own = [endpoint.address for endpoint in (*gateway.listen, gateway.admin_listen)]
    return access.reserved_networks(configuration.network.pools, own)


def access_rules(configuration: Configuration) -> RuleSet:
    """The compiled rules of every session under this configuration."""
    written = tuple(to_rule(entry) for entry in configuration.access)
    rules = written or access.implied_rules(configuration.network.split_include)
    return access.compile_rules(rules, reserved_networks(configuration))


def to_rule(entry: Access) -> AccessRule:
    """One [[access]] table as a model value."""
    return AccessRule(
        name=entry.name,
        allow=entry.action == "allow",
        networks=entry.to,
        protocol=_PROTOCOLS.get(entry.protocol, entry.protocol),
        ports=entry.ports,
    )
