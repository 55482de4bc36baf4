"""A plan's device settings, routes and rules in the kernel, by netlink. All calls block.

Our table holds, for every network: a route into the TUN and, of worse metric, an unreachable one, which takes over
when the device is away; or a throw route, which sends the packet on to the rules behind ours; or the unreachable
one alone. Two rules a version lead there (`plan`). Nothing of another program is touched.

A plan that replaces another is in place before what is left of the old one goes, and at every moment in between a
packet goes one of the two ways that the plans have for it (`to_put`, `to_take_away`): what is in the tunnel before
and after is in the tunnel all the time, with the connections it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pyroute2 import IPRoute

from lockgate.client.linux.netlink import (
    FAMILY,
    INVERT,
    SYSCTL,
    THROW,
    TUN_GONE,
    UNICAST,
    UNREACHABLE,
    Entry,
    addresses,
    apart,
    device_names,
    entries,
    kernel,
    refused,
    route_of,
    rule_of,
    rules,
    take_away,
)
from lockgate.client.network_plan import LAST_PREFERENCE, PREFERENCE, TABLE, NetworkPlan, Rule, Way
from lockgate.model.problem import ProblemError

PROTOCOL = 0x4C
"""Says "ours" in `ip route` and `ip rule`; no number of a routing daemon (linux/rtnetlink.h)."""

_NODAD, _NOPREFIXROUTE = 0x02, 0x200  # linux/if_addr.h
_SCOPE_LINK = 253  # linux/rtnetlink.h
_METRIC, _METRIC_LAST = 10, 4_000_000


def wanted(plan: NetworkPlan) -> set[Entry]:
    """The whole content of our table."""
    source = {address.version: str(address.ip) for address in plan.addresses}
    entries = set()
    for route in plan.routes:
        if route.way is Way.OUTSIDE:
            entries.add(Entry(route.network, THROW, _METRIC))
            continue
        entries.add(Entry(route.network, UNREACHABLE, _METRIC_LAST))
        if route.way is Way.TUNNEL:
            entries.add(Entry(route.network, UNICAST, _METRIC, plan.tun_index, source[route.network.version]))
    return entries


def to_put(present: Iterable[Entry], goal: Iterable[Entry]) -> list[Entry]:
    """What is missing, in order. The most specific network first, so that a larger one never speaks for a smaller
    one that is still to come; of one network the way into the tunnel before what stands behind it."""
    missing = set(goal).difference(present)
    return sorted(missing, key=lambda entry: (-entry.network.prefixlen, entry.kind == UNREACHABLE))


def to_take_away(present: Iterable[Entry], goal: Iterable[Entry]) -> list[Entry]:
    """What is there and not wanted, in order: the other way round."""
    left = set(present).difference(goal)
    return sorted(left, key=lambda entry: (entry.network.prefixlen, entry.kind != UNREACHABLE))


@apart
def apply(plan: NetworkPlan) -> None:
    """Put everything in place and take away what is ours and not in the plan. Does no harm if all is there.

    raises: ProblemError tun-gone, network-refused; what was done until then stays: `remove` takes it back.
    """
    with kernel() as ip:
        _set_up_device(ip, plan)
        goal = wanted(plan)
        for entry in to_put((entry for entry, _ in entries(ip)), goal):
            ip.route("replace", **_route(entry))
        there = {rule for rule, _ in rules(ip)}
        for rule in plan.rules:
            if rule not in there:
                ip.rule("add", **_rule(rule))
        for present, message in rules(ip):
            if _is_ours(message) and present not in plan.rules:
                take_away(ip.rule, rule_of(message))
        messages: dict[Entry, list[Any]] = {}
        for present_entry, message in entries(ip):
            messages.setdefault(present_entry, []).append(message)
        for entry in to_take_away(messages, goal):
            for message in messages[entry]:
                take_away(ip.route, route_of(message))


@apart
def set_mtu(index: int, mtu: int) -> None:
    """Of the TUN, when the path turns out to take less. raises: ProblemError tun-gone, network-refused."""
    with kernel() as ip:
        ip.link("set", index=index, mtu=mtu)


@apart
def remove() -> list[str]:
    """Take away our rules and our table, whoever made them. Twice does no harm.

    returns: what was there, in words. raises: ProblemError network-refused.
    """
    with kernel() as ip:
        # Rules first: from then on nobody looks in the table.
        ours = [message for _, message in rules(ip) if _is_ours(message)]
        for message in ours:
            take_away(ip.rule, rule_of(message))
        left = entries(ip)
        for _, message in left:
            take_away(ip.route, route_of(message))
        if entries(ip):
            raise ProblemError(refused("routes of ours stay"))
    found = [f"{len(ours)} routing rules"] if ours else []
    return found + ([f"{len(left)} routes"] if left else [])


@apart
def our_devices() -> set[int]:
    """Indexes of the devices that our table's routes lead into."""
    with kernel() as ip:
        return {entry.oif for entry, _ in entries(ip) if entry.oif is not None}


@apart
def remove_device(index: int) -> str | None:
    """Delete a TUN device. returns: its name; None if there is none with this index, or it is no TUN."""
    with kernel() as ip:
        for link in ip.get_links():
            information = link.get_attr("IFLA_LINKINFO")
            kind = information.get_attr("IFLA_INFO_KIND") if information is not None else None
            if link["index"] == index and kind == "tun":
                take_away(ip.link, {"index": index})
                return str(link.get_attr("IFLA_IFNAME"))
    return None


def _is_ours(message: Any) -> bool:
    preference = message.get_attr("FRA_PRIORITY") or 0
    return PREFERENCE <= preference <= LAST_PREFERENCE and (
        message.get_attr("FRA_PROTOCOL") == PROTOCOL or message.get_attr("FRA_TABLE") == TABLE
    )


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "family": FAMILY[rule.version],
        "priority": rule.preference,
        "table": rule.table,
        "fwmark": rule.mark,
        "fwmask": 0xFFFFFFFF,
        "flags": INVERT if rule.inverted else 0,
        "protocol": PROTOCOL,
    }


def _route(entry: Entry) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "family": FAMILY[entry.network.version],
        "dst": str(entry.network),
        "table": TABLE,
        "type": entry.kind,
        "priority": entry.metric,
        "proto": PROTOCOL,
    }
    if entry.oif is not None:
        wanted |= {"oif": entry.oif, "prefsrc": entry.source, "scope": _SCOPE_LINK}
    return wanted


def _set_up_device(ip: IPRoute, plan: NetworkPlan) -> None:
    if plan.tun_name not in device_names(ip):
        raise ProblemError(TUN_GONE)
    versions = {address.version for address in plan.addresses}
    # No address, router or route of this device but ours: nobody on the other side announces any.
    settings = {"accept_ra": "0", "autoconf": "0", "addr_gen_mode": "1"}
    settings["disable_ipv6"] = "0" if 6 in versions else "1"
    for name, value in settings.items():
        with suppress(OSError):  # no IPv6 at all, or /proc/sys read-only in a container
            (SYSCTL / "ipv6/conf" / plan.tun_name / name).write_text(value)
    ip.link("set", index=plan.tun_index, mtu=plan.mtu)
    ip.link("set", index=plan.tun_index, state="up")
    present = {address for address, _ in addresses(ip, plan.tun_index)}
    for address in plan.addresses:
        if address not in present:
            flags = _NOPREFIXROUTE | (_NODAD if address.version == 6 else 0)
            ip.addr(
                "add",
                index=plan.tun_index,
                family=FAMILY[address.version],
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                flags=flags,
            )
    for stale in present:
        if stale not in plan.addresses and not stale.is_link_local:
            take_away(
                ip.addr,
                {"index": plan.tun_index, "address": str(stale.ip), "prefixlen": stale.network.prefixlen},
            )
