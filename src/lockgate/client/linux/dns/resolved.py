"""The driver for systemd-resolved: servers and domains of the tunnel's link, set on the system bus.

resolved asks the links whose domains match a name best, all of them. With all names inside our link gets the
root as a routing domain and other links lose theirs; with split our link gets the corporate domains and other
links lose the ones that would match such a name as well or better: whatever a network's DHCP calls itself, our
names are asked here only. What they keep only routes and is no longer searched: `intranet` would otherwise be
asked as `intranet.lan` too, and the faster answer taken; `x.corp.example`, if unknown, as `x.corp.example.lan`.
Multicast look-up (LLMNR) of single labels on other links is switched off for the same reason.

What is taken from other links is in the saved state. It is given back only if nobody has changed it since.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from lockgate.client.linux.dns.driver import Driver, Saved
from lockgate.client.linux.dns.wish import DnsWish, within
from lockgate.client.linux.system_bus import BusError, NoBusError, SystemBus
from lockgate.model.problem import Problem, ProblemError

RESOLVED = "org.freedesktop.resolve1"
_PATH = "/org/freedesktop/resolve1"
_MANAGER = "org.freedesktop.resolve1.Manager"
_LINK = "org.freedesktop.resolve1.Link"
_NETWORKD = ("org.freedesktop.network1", "/org/freedesktop/network1", "org.freedesktop.network1.Manager")
_BUSY = "org.freedesktop.resolve1.LinkBusy"
_GONE = ("org.freedesktop.resolve1.NoSuchLink", "org.freedesktop.network1.NoSuchLink")
_MAX_LINKS = 256
"""Links looked at for multicast; a machine with more is a host of containers, whose links have no resolver."""

Domain = tuple[str, bool]
"""A name without a last dot ("" is the root, "." on the bus), and whether it only routes (is no search domain)."""


class Resolved(Driver):
    """saved: `ifindex` and `interface` of the tunnel, and `others`: per link what was taken from it."""

    name = "systemd-resolved"

    def __init__(self, previous: Saved | None = None) -> None:
        super().__init__()
        known = previous if previous is not None and previous.get("driver") == self.name else {}
        self._others: list[dict[str, Any]] = list(known.get("others", ()))

    async def saved(self, wish: DnsWish) -> dict[str, Any]:
        try:
            async with SystemBus() as bus:
                self._others = await _to_take(bus, wish, self._others)
        except (NoBusError, BusError) as error:
            raise _refused(error) from error
        return {
            "driver": self.name,
            "ifindex": wish.ifindex,
            "interface": wish.interface,
            "others": self._others,
        }

    async def apply(self, wish: DnsWish) -> None:
        domains = [(domain, False) for domain in wish.domains]
        if not wish.divided:
            domains.append((".", True))
        try:
            async with SystemBus() as bus:
                await _set(bus, "SetLinkDNS", "a(iay)", wish.ifindex, _servers(wish))
                await _set(bus, "SetLinkDomains", "a(sb)", wish.ifindex, [list(domain) for domain in domains])
                await _set(bus, "SetLinkDefaultRoute", "b", wish.ifindex, not wish.divided)
                await _set(bus, "SetLinkLLMNR", "s", wish.ifindex, "no")
                await _set(bus, "SetLinkMulticastDNS", "s", wish.ifindex, "no")
                # The tunnel protects the way already, and corporate servers rarely speak it.
                await _set(bus, "SetLinkDNSOverTLS", "s", wish.ifindex, "no")
                if wish.divided:
                    # Corporate zones are often unsigned children of signed public ones.
                    await _set(
                        bus, "SetLinkDNSSECNegativeTrustAnchors", "as", wish.ifindex, list(wish.domains)
                    )
                for other in self._others:
                    await _take(bus, other)
                await bus.call(RESOLVED, _PATH, _MANAGER, "FlushCaches")
        except (NoBusError, BusError) as error:
            raise _refused(error) from error

    async def verify(self, wish: DnsWish) -> bool:
        try:
            async with SystemBus() as bus:
                link = await _link(bus, wish.ifindex)
                wanted = {(name, False) for name in wish.domains} | (set() if wish.divided else {("", True)})
                return (
                    [[family, bytes(address)] for family, address in link["DNS"]] == _servers(wish)
                    and set(_domains(link)) == wanted
                    and link["DefaultRoute"] == (not wish.divided)
                    and await _to_take(bus, wish, self._others) == self._others
                    and all([await _is_taken(bus, other) for other in self._others])
                )
        except (NoBusError, BusError):
            return False

    async def revert(self, saved: Saved) -> None:
        await restore(saved)
        self._others = []


async def running() -> bool:
    """Whether systemd-resolved answers on the system bus."""
    try:
        async with SystemBus() as bus:
            if not await bus.has_owner(RESOLVED):
                return False
            await bus.call(RESOLVED, _PATH, "org.freedesktop.DBus.Peer", "Ping")
            return True
    except (NoBusError, BusError):
        return False


async def restore(saved: Saved) -> list[str]:
    """Undo it. Says what was done. raises: ProblemError dns-refused."""
    try:
        async with SystemBus() as bus:
            if not await bus.has_owner(RESOLVED):
                return ["systemd-resolved: not running, nothing to undo"]
            done = []
            if _index(saved) is not None:
                await _set(bus, "RevertLink", "", saved["ifindex"])
                done.append(f"systemd-resolved: {saved['interface']} reverted")
            for other in saved.get("others", ()):
                done += await _give_back(bus, other)
            await bus.call(RESOLVED, _PATH, _MANAGER, "FlushCaches")
            return done or ["systemd-resolved: nothing left to undo"]
    except NoBusError:
        return ["systemd-resolved: no system bus, nothing to undo"]
    except BusError as error:
        raise _refused(error) from error


def kept_domains(domains: Iterable[Domain], wish: DnsWish) -> list[Domain]:
    """What another link may keep beside the tunnel, for routing only."""
    if not wish.divided:
        return []
    return [(name, True) for name, _ in domains if not any(within(name.lower(), own) for own in wish.domains)]


async def _to_take(bus: SystemBus, wish: DnsWish, known: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What has to be taken from the links other than ours.

    known: what is taken already; it stays as it is as long as the link is as we left it.
    """
    by_name = {(other["ifindex"], other["interface"]): other for other in known}
    manager = (await bus.call(RESOLVED, _PATH, "org.freedesktop.DBus.Properties", "GetAll", "s", _MANAGER))[0]
    multicast = manager["LLMNR"].value != "no"
    with_domains = {index for index, _, _ in manager["Domains"].value}
    found = []
    for index, name in socket.if_nameindex()[:_MAX_LINKS]:
        former = by_name.get((index, name))
        if index == wish.ifindex or not (multicast or index in with_domains or former):
            continue
        try:
            link = await _link(bus, index)
        except BusError as error:
            if error.name in _GONE:
                continue
            raise
        taken = _taken_from(link, former or {}, wish, multicast=multicast and name != "lo")
        if taken:
            found.append({"ifindex": index, "interface": name, **taken})
    return found


def _taken_from(
    link: dict[str, Any], former: dict[str, Any], wish: DnsWish, *, multicast: bool
) -> dict[str, Any]:
    """What is taken from one link: `domains` and what is `left` of them, and its `llmnr` setting.

    `default_route` is not taken, but follows from the kind of domains unless somebody has set it: it stays.
    """
    taken: dict[str, Any] = {}
    domains = _domains(link)
    left = kept_domains(domains, wish)
    if _domains_gone(link, former):
        taken = {key: former[key] for key in ("domains", "left", "default_route")}
    elif left != domains:
        taken = {
            "domains": [list(domain) for domain in domains],
            "left": [list(domain) for domain in left],
            "default_route": link["DefaultRoute"],
        }
    if _llmnr_gone(link, former):
        taken["llmnr"] = former["llmnr"]
    elif multicast and link["LLMNR"] != "no":
        taken["llmnr"] = link["LLMNR"]
    return taken


def _domains_gone(link: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether we took domains from this link and it has had no new ones since."""
    return "domains" in other and _domains(link) == [tuple(domain) for domain in other["left"]]


def _llmnr_gone(link: dict[str, Any], other: dict[str, Any]) -> bool:
    return "llmnr" in other and link["LLMNR"] == "no"


async def _is_taken(bus: SystemBus, other: dict[str, Any]) -> bool:
    if _index(other) is None:
        return True
    link = await _link(bus, other["ifindex"])
    return _domains_gone(link, other) == ("domains" in other) and _llmnr_gone(link, other) == (
        "llmnr" in other
    )


async def _take(bus: SystemBus, other: dict[str, Any]) -> None:
    if _index(other) is None:
        return
    if "domains" in other:
        for domains in _steps(other["domains"], other["left"]):
            await _set(bus, "SetLinkDomains", "a(sb)", other["ifindex"], domains)
        await _set(bus, "SetLinkDefaultRoute", "b", other["ifindex"], other["default_route"])
    if "llmnr" in other:
        await _set(bus, "SetLinkLLMNR", "s", other["ifindex"], "no")


async def _give_back(bus: SystemBus, other: dict[str, Any]) -> list[str]:
    name = other["interface"]
    if _index(other) is None:
        return []
    link = await _link(bus, other["ifindex"])
    domains, llmnr = _domains_gone(link, other), _llmnr_gone(link, other)
    if not (domains or llmnr):
        return [f"systemd-resolved: {name} was changed by somebody else since, left as it is"]
    try:
        if domains:
            for step in _steps(other["left"], other["domains"]):
                await _call(bus, "SetLinkDomains", "a(sb)", other["ifindex"], step)
        if llmnr:
            await _call(bus, "SetLinkLLMNR", "s", other["ifindex"], other["llmnr"])
    except BusError as error:
        if error.name != _BUSY:
            raise
        # networkd's own configuration of the link comes back; it was networkd that held what we took.
        await bus.call(*_NETWORKD, "RevertLinkDNS", "i", other["ifindex"])
    return [f"systemd-resolved: {name} has its settings back"]


async def _set(bus: SystemBus, member: str, signature: str, ifindex: int, *values: Any) -> None:
    """Change a link; by way of networkd where that one manages it."""
    try:
        await _call(bus, member, signature, ifindex, *values)
    except BusError as error:
        if error.name != _BUSY:
            raise
        await bus.call(*_NETWORKD, member, "i" + signature, ifindex, *values)


async def _call(bus: SystemBus, member: str, signature: str, ifindex: int, *values: Any) -> None:
    await bus.call(RESOLVED, _PATH, _MANAGER, member, "i" + signature, ifindex, *values)


async def _link(bus: SystemBus, ifindex: int) -> dict[str, Any]:
    path = (await bus.call(RESOLVED, _PATH, _MANAGER, "GetLink", "i", ifindex))[0]
    values = (await bus.call(RESOLVED, path, "org.freedesktop.DBus.Properties", "GetAll", "s", _LINK))[0]
    return {name: variant.value for name, variant in values.items()}


def _domains(link: dict[str, Any]) -> list[Domain]:
    return [("" if name == "." else name.rstrip("."), bool(routing)) for name, routing in link["Domains"]]


def _steps(before: Iterable[Any], after: Iterable[Any]) -> list[list[list[Any]]]:
    """From one list of domains to another, as SetLinkDomains takes them.

    By way of none where only what they are for changes: resolved then would leave the search list in its
    resolv.conf as it was, which programs complete names with.
    """
    old, new = _on_the_bus(before), _on_the_bus(after)
    same_names = sorted(name for name, _ in old) == sorted(name for name, _ in new)
    return [[], new] if same_names and old != new else [new]


def _on_the_bus(domains: Iterable[Any]) -> list[list[Any]]:
    return [[name or ".", routing] for name, routing in domains]


def _index(entry: Saved) -> int | None:
    """The link's index if the interface of that index is still the one meant."""
    try:
        same = socket.if_indextoname(int(entry["ifindex"])) == entry["interface"]
    except (OSError, OverflowError):
        return None
    return int(entry["ifindex"]) if same else None


def _servers(wish: DnsWish) -> list[list[Any]]:
    families = {IPv4Address: socket.AF_INET, IPv6Address: socket.AF_INET6}
    return [[int(families[type(server)]), server.packed] for server in wish.servers]


def _refused(error: Exception) -> ProblemError:
    return ProblemError(
        Problem(
            "dns-refused",
            f"systemd-resolved did not take the tunnel's name servers: {error}.",
            "Check that it runs (`resolvectl status`) and connect again.",
        )
    )
