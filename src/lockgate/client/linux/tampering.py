"""Whether a plan is still in place, and who stands in its way. Reads only; blocks."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from pyroute2 import IPRoute

from lockgate.client.linux import firewall, routes
from lockgate.client.linux.netlink import (
    LOCAL_TABLE,
    NO_SUPPRESSION,
    THROW,
    TO_TABLE,
    UNICAST,
    addresses,
    device_names,
    entries,
    kernel,
    rules,
)
from lockgate.client.network_plan import PREFERENCE, NetworkPlan
from lockgate.client.segments import Network, Segment

_NOP = 3  # linux/fib_rules.h: a rule that does nothing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the plan wants it.

    code: device-gone, device-down, address-missing, route-missing, route-foreign, rule-missing,
          rule-foreign (a rule before ours that diverts tunnel traffic), local-foreign (a route in the
          local table that does), firewall-changed. `routes.apply` and `firewall.apply` put back all but
          rule-foreign and local-foreign, which belong to somebody else; the firewall drops what they divert.
    """

    code: str
    text: str

    @property
    def mendable(self) -> bool:
        return self.code not in ("rule-foreign", "local-foreign", "device-gone")


def findings(plan: NetworkPlan) -> list[Finding]:
    """Empty: all is in place. raises: ProblemError network-refused, firewall-missing, firewall-refused."""
    with kernel() as ip:
        found = [*_device(ip, plan), *_routes(ip, plan), *_rules(ip, plan), *_local_table(ip, plan)]
    if not firewall.intact(plan):
        found.append(Finding("firewall-changed", "The firewall table of the tunnel was changed or removed."))
    return found


def _device(ip: IPRoute, plan: NetworkPlan) -> list[Finding]:
    if plan.tun_name not in device_names(ip):
        return [Finding("device-gone", f"The network device {plan.tun_name} was removed.")]
    found = []
    (link,) = ip.get_links(plan.tun_index)
    if not link["flags"] & 1:  # IFF_UP
        found.append(Finding("device-down", f"The network device {plan.tun_name} was switched off."))
    present = {address for address, _ in addresses(ip, plan.tun_index)}
    found += [
        Finding("address-missing", f"The address {address.ip} of {plan.tun_name} was removed.")
        for address in plan.addresses
        if address not in present
    ]
    return found


def _routes(ip: IPRoute, plan: NetworkPlan) -> list[Finding]:
    wanted = routes.wanted(plan)
    present = [entry for entry, _ in entries(ip)]
    gone = sorted({str(entry.network) for entry in wanted.difference(present)})
    foreign = sorted({str(entry.network) for entry in present if entry not in wanted})
    return [
        *(Finding("route-missing", f"The tunnel's route for {network} was removed.") for network in gone),
        *(
            Finding("route-foreign", f"A route for {network} was put beside the tunnel's.")
            for network in foreign
        ),
    ]


def _rules(ip: IPRoute, plan: NetworkPlan) -> list[Finding]:
    present = rules(ip)
    known = {rule for rule, _ in present}
    found = [
        Finding("rule-missing", f"The routing rule {rule.preference} for IPv{rule.version} was removed.")
        for rule in plan.rules
        if rule not in known
    ]
    enclosed = plan.firewall.enclosed
    for rule, message in present:
        preference = message.get_attr("FRA_PRIORITY") or 0
        if rule in plan.rules or preference > PREFERENCE + 1:
            continue
        if _diverts(ip, message, enclosed):
            version = 4 if message["family"] == socket.AF_INET else 6
            text = f"The routing rule {preference} for IPv{version} leads packets past the tunnel."
            found.append(Finding("rule-foreign", text))
    return found


def _diverts(ip: IPRoute, message: Any, enclosed: Sequence[Segment]) -> bool:
    """Whether packets that belong in the tunnel can meet a decision here.

    Rules for marked packets are left alone: only privileged programs mark theirs, for tunnels of their own, and
    the firewall drops these packets where they do not belong. So are those of virtual routers (l3mdev).
    """
    if message.get_attr("FRA_FWMARK") or message.get_attr("FRA_L3MDEV"):
        return False
    target = message.get_attr("FRA_DST")
    if target is not None and not _touches(ip_network((target, message["dst_len"])), enclosed):
        return False
    if message["action"] == _NOP:
        return False
    if message["action"] != TO_TABLE:
        return True
    table = message.get_attr("FRA_TABLE") or message["table"]
    if table == LOCAL_TABLE:
        return False  # looked at by itself
    suppressed = message.get_attr("FRA_SUPPRESS_PREFIXLEN", NO_SUPPRESSION)
    version = 4 if message["family"] == socket.AF_INET else 6
    return any(
        entry.network.version == version
        and entry.kind != THROW
        and (suppressed == NO_SUPPRESSION or entry.network.prefixlen > suppressed)
        and _touches(entry.network, enclosed)
        for entry, _ in entries(ip, table)
    )


def _local_table(ip: IPRoute, plan: NetworkPlan) -> list[Finding]:
    """Its rule comes before all others; what the kernel keeps there are this machine's own addresses."""
    return [
        Finding("local-foreign", f"A route for {entry.network} in the local table leads past the tunnel.")
        for entry, _ in entries(ip, LOCAL_TABLE)
        if entry.kind == UNICAST and entry.oif != plan.tun_index
        if _touches(entry.network, plan.firewall.enclosed)
    ]


def _touches(network: Network, segments: Sequence[Segment]) -> bool:
    first, last = int(network.network_address), int(network.broadcast_address)
    return any(
        segment.version == network.version and segment.first <= last and first <= segment.last
        for segment in segments
    )
