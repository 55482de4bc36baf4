"""News about this machine's network, the way to a peer, and whether a plan is still in place."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType

from lockgate.client.linux import tampering
from lockgate.client.linux.netlink import FAMILY, UNICAST, kernel
from lockgate.client.linux.tampering import Finding as Finding
from lockgate.client.network_plan import MARK, NetworkPlan
from lockgate.client.segments import Address
from lockgate.model.problem import ProblemError

QUIET = 0.3  # seconds without further news before it is told: DHCP and IPv6 come in bursts
LONGEST = 2.0  # seconds after which it is told anyway

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12  # linux/netlink.h
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
# linux/rtnetlink.h: groups are bits, RTNLGRP_x is bit x - 1.
_ROUTE_GROUPS = sum(1 << (group - 1) for group in (1, 5, 7, 8, 9, 11, 19))
_RULES_GROUP = 1 << (7 - 1)  # NFNLGRP_NFTABLES, linux/netfilter/nfnetlink.h
_KINDS = {
    **dict.fromkeys((16, 17), "link"),
    **dict.fromkeys((20, 21), "address"),
    **dict.fromkeys((24, 25), "route"),
    **dict.fromkeys((32, 33), "rule"),
}
_ALL = frozenset(("link", "address", "route", "rule", "firewall"))
_BUFFER = 1 << 20  # bytes; the same for one read


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """kinds: of link, address, route, rule, firewall. Our own changes are among them: compare, do not count."""

    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Path:
    """How our marked packets get to a peer now. next_hop: None when it is on the link."""

    interface: str
    source: Address
    next_hop: Address | None


class NetworkMonitor:
    """`async with NetworkMonitor() as news: async for change in news: …`, without end.

    News that come while nobody asks are kept as one. Belongs to the event loop that enters it.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._kinds: set[str] = set()
        self._news = asyncio.Event()

    async def __aenter__(self) -> NetworkMonitor:
        loop = asyncio.get_running_loop()
        for protocol, groups in ((_NETLINK_ROUTE, _ROUTE_GROUPS), (_NETLINK_NETFILTER, _RULES_GROUP)):
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
            self._sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            try:
                sock.bind((0, groups))
            except PermissionError:  # hearing about the firewall takes CAP_NET_ADMIN; the rest does not
                continue
            loop.add_reader(sock, self._read, sock, protocol)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def __aiter__(self) -> NetworkMonitor:
        return self

    async def __anext__(self) -> NetworkChanged:
        if not self._kinds:  # there are some when a caller gave up while we waited for quiet
            await self._news.wait()
        loop = asyncio.get_running_loop()
        latest = loop.time() + LONGEST
        while (patience := min(QUIET, latest - loop.time())) > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                break
        self._news.clear()
        kinds, self._kinds = frozenset(self._kinds), set()
        return NetworkChanged(kinds)

    def _read(self, sock: socket.socket, protocol: int) -> None:
        while True:
            try:
                data, sender = sock.recvfrom(_BUFFER)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: there was more than we could read, so anything may have changed
                self._kinds |= _ALL
                continue
            if sender[0] == 0:  # from the kernel
                self._kinds |= set(kinds_of(data)) if protocol == _NETLINK_ROUTE else {"firewall"}
        if self._kinds:
            self._news.set()


def kinds_of(data: bytes) -> Iterator[str]:
    """What a packet of route netlink speaks of; messages of other types, and what follows a broken one, are
    left out."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind = _HEADER.unpack_from(data, at)[:2]
        if length < _HEADER.size:
            return
        if kind in _KINDS:
            yield _KINDS[kind]
        at += (length + 3) & ~3


async def current_path(peer: Address, mark: int = MARK) -> Path | None:
    """The kernel's choice for packets with our mark; None: there is no way there now."""
    return await asyncio.to_thread(_path, peer, mark)


async def verify(plan: NetworkPlan) -> list[Finding]:
    """What of the plan is not in place any more, or is diverted. Empty: all is well.

    raises: ProblemError network-refused, firewall-missing, firewall-refused.
    """
    return await asyncio.to_thread(tampering.findings, plan)


def _path(peer: Address, mark: int) -> Path | None:
    try:
        with kernel() as ip:
            (route,) = ip.route("get", dst=str(peer), family=FAMILY[peer.version], mark=mark)
            (link,) = ip.get_links(route.get_attr("RTA_OIF"))
    except ProblemError:
        return None
    source = route.get_attr("RTA_PREFSRC")
    if route["type"] != UNICAST or source is None:
        return None
    hop = route.get_attr("RTA_GATEWAY") or (route.get_attr("RTA_VIA") or {}).get("addr")
    return Path(link.get_attr("IFLA_IFNAME"), ip_address(source), ip_address(hop) if hop else None)
