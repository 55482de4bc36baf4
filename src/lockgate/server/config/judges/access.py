"""Access rules and bandwidth: what matches nothing, and how many rules the edge takes."""

from __future__ import annotations

from collections.abc import Iterator

from lockgate.model.access_rule import PortRange
from lockgate.policy.access import WITH_PORTS
from lockgate.protocol.edge_link import MAX_RULES
from lockgate.server.config.findings import Finding, Path, shown
from lockgate.server.config.judges.applies import most_per_role, names_nobody
from lockgate.server.config.tree import Configuration


def judge(tree: Configuration) -> Iterator[Finding]:
    versions = {pool.version for pool in tree.network.pools}
    for rule in tree.access_control:
        path: Path = ("access_control", rule.name)
        yield from judge_ports(rule.protocol, rule.ports, path)
        everything = {
            target.version for target in rule.to if not isinstance(target, str) and not target.prefixlen
        }
        for place, target in enumerate(rule.to):
            # "Everything" is written for both families, whatever the pools have.
            if isinstance(target, str) or target.version in versions or everything == {4, 6}:
                continue
            yield Finding(
                (*path, "to", place),
                f"{target} matches nothing: there is no IPv{target.version} pool",
                f"an IPv{target.version} pool in network.pools",
                warning=True,
            )
        yield from names_nobody(rule.applies, path)
    yield from _count(tree)
    for limit in tree.bandwidth:
        yield from names_nobody(limit.applies, ("bandwidth", limit.name))


def judge_ports(protocol: int | str, ports: tuple[PortRange, ...], path: Path) -> Iterator[Finding]:
    """Also of the rules of config.toml."""
    if ports and protocol not in ("tcp", "udp", *WITH_PORTS):
        yield Finding(
            (*path, "ports"),
            f"protocol {shown(protocol)} has no ports to check",
            'ports only with protocol = "tcp" or "udp"; write one rule for each',
        )


def _count(tree: Configuration) -> Iterator[Finding]:
    """A session with several roles has the rules of all; the count for one role is the least it can be."""
    weights = [(rule.applies, len(rule.to) * max(1, len(rule.ports))) for rule in tree.access_control]
    most, role = most_per_role(weights, [role.name for role in tree.roles])
    if most > MAX_RULES:
        yield Finding(
            ("access_control",),
            f"the rules that apply to the role {role} make {most} combinations of destination and port range",
            f"at most {MAX_RULES}; join neighbouring networks, or let rules apply to selected roles",
        )
