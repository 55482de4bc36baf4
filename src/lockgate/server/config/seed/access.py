"""The tree's access rules in the terms of `policy.access`."""

from __future__ import annotations

from lockgate.model.access_rule import AccessRule, RuleSet
from lockgate.policy import access
from lockgate.server.config import defaults
from lockgate.server.config.compile import PROTOCOLS
from lockgate.server.config.seed.tree import Access, Seed
from lockgate.server.config.values import Network


def reserved_networks(configuration: Seed) -> tuple[Network, ...]:
    """Session pools and the addresses the gateway listens on by name."""
    return access.reserved_networks(configuration.network.pools, configuration.gateway.addresses)


def access_rules(configuration: Seed) -> RuleSet:
    """The compiled rules of every session under this configuration."""
    rules = tuple(to_rule(entry) for entry in configuration.access)
    rules = rules or (AccessRule(defaults.OPEN_POLICY, True, unwritten(configuration)),)
    return access.compile_rules(rules, reserved_networks(configuration))


def unwritten(configuration: Seed) -> tuple[Network, ...]:
    """What users reach when the file has no rule: the tunnelled networks, or everything; nothing reserved."""
    reserved = reserved_networks(configuration)
    return tuple(
        network
        for network in configuration.network.split_include or defaults.EVERYTHING
        if not any(access.inside(network, outer) for outer in reserved)
    )


def to_rule(entry: Access) -> AccessRule:
    """One [[access]] table as a model value."""
    return AccessRule(
        name=entry.name,
        allow=entry.action == "allow",
        networks=entry.to,
        protocol=PROTOCOLS.get(entry.protocol, entry.protocol),
        ports=entry.ports,
    )
