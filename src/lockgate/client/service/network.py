"""The machine's network as the tunnel needs it: one tunnel at a time, applied, watched, mended, given back.

What belongs in the tunnel is decided by `client.plan`, done by `client.linux`; this keeps the TUN and the plan
that is in place, and turns the kernel's news into events of the connection that owns the tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import structlog

from lockgate.client import machine, problems
from lockgate.client.linux import dns, network
from lockgate.client.linux.dns import DnsWish, Driver
from lockgate.client.linux.facts import read_facts
from lockgate.client.linux.journal import Journal
from lockgate.client.linux.monitor import Finding, NetworkMonitor, current_path, verify
from lockgate.client.linux.monitor import Path as Way
from lockgate.client.linux.reset import DNS_KEY
from lockgate.client.linux.routes import remove_device
from lockgate.client.linux.sockets import connect_udp
from lockgate.client.linux.tun import Tun, open_tun
from lockgate.client.network_plan import NetworkPlan, Peer
from lockgate.client.plan import make_plan
from lockgate.client.segments import Address
from lockgate.client.service.dialer import Transport
from lockgate.client.service.dns_health import DnsHealth
from lockgate.client.service.hub import EdgeHub
from lockgate.client.service.saved_session import SavedSession
from lockgate.client.service.tcp import endpoints, gateways
from lockgate.model.problem import ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.pulse.config import TunnelConfig

log = structlog.get_logger("network")

T = TypeVar("T")

LOOK_AGAIN = 5.0  # seconds between looks without news: not everything that can be changed is told


@dataclass(frozen=True, slots=True)
class NetworkNews:
    """What happened to the network, as events of the connection that owns the tunnel, if one does."""

    owner: str
    events: tuple[machine.Event, ...]

    def events_for(self, connection: str) -> tuple[machine.Event, ...]:
        return self.events if connection == self.owner else ()


@dataclass(frozen=True, slots=True)
class _InPlace:
    """The tunnel that is in place."""

    owner: str
    config: TunnelConfig
    peers: tuple[Peer, ...]
    gateway: Address
    plan: NetworkPlan


class TunnelNetwork:
    """The network of the one tunnel. All methods may be called at any time; changes run one at a time."""

    def __init__(self, hub: EdgeHub, state_directory: Path) -> None:
        self._hub = hub
        self._journal = Journal(state_directory)
        self._tun: Tun | None = None
        self._tun_taken_over = ("", 0)  # name and index of a device whose descriptor only the edge has
        self._driver: Driver | None = None
        self._wish: DnsWish | None = None
        self._now: _InPlace | None = None
        self._way: Way | None = None
        self._mtu = 0
        self._dns_health = DnsHealth()
        self._unseen = ""  # code of the problem that keeps us from seeing the network
        self._changes = asyncio.Lock()

    # -- what is in place --------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """The connection whose tunnel it is, or empty."""
        return self._now.owner if self._now is not None else ""

    @property
    def interface(self) -> str:
        """Name of the tunnel's device, or empty."""
        return self._tun.name if self._tun is not None else self._tun_taken_over[0]

    @property
    def decisions(self) -> list[str]:
        """Why the network is as it is, one sentence a decision, and what the gateway does not get."""
        if self._now is None:
            return []
        plan = self._now.plan
        return [*plan.decisions, *(warning.summary for warning in plan.warnings)]

    @property
    def dns_driver(self) -> str | None:
        return self._driver.name if self._driver is not None and self._wish is not None else None

    @property
    def silent_name_servers(self) -> tuple[Address, ...]:
        """Those of the tunnel that did not answer `ask_name_servers`."""
        return self._dns_health.silent

    async def ask_name_servers(self) -> None:
        """Finds out which of the tunnel's name servers answer; waits a second for them at most."""
        await self._dns_health.refresh(self._wish)

    # -- putting in place --------------------------------------------------------------------------

    async def apply(
        self, owner: str, config: TunnelConfig, transport: Transport, saved: SavedSession
    ) -> None:
        """Everything for this configuration, over whatever the owner had before. Raises ProblemError; what
        was in place before stays then."""
        async with self._changes:
            self._ensure_tun()
            peers = _peers(config, saved)
            await _to_its_end(self._put(owner, config, peers, ip_address(transport.peer_address)))

    async def take_up(self, owner: str, saved: SavedSession) -> TunnelConfig:
        """Continues with a tunnel that lives in the edge: its device is there, what else was set is checked
        and put back where it is missing. returns: what it was configured with last."""
        async with self._changes:
            config = saved.config()
            with contextlib.suppress(OSError):
                self._tun_taken_over = (saved.interface, socket.if_nametoindex(saved.interface))
            address = saved.peer.rpartition(":")[0]
            gateway = ip_address(address.removeprefix("[").removesuffix("]"))
            await self._put(owner, config, _peers(config, saved), gateway)
            return config

    async def change(self, owner: str, before: TunnelConfig, config: TunnelConfig) -> bool:
        """Another configuration for the tunnel that is in place, around which its packets flow on.

        before: the very object that is in place. returns: False where that is not so any more: whatever came
        instead knows better. Raises ProblemError; what was in place before stays then.
        """
        async with self._changes:
            now = self._now
            if now is None or now.owner != owner or now.config is not before:
                return False
            await _to_its_end(self._change(now, config))
            return True

    async def _change(self, now: _InPlace, config: TunnelConfig) -> None:
        way = self._way
        try:
            await self._put(now.owner, config, now.peers, now.gateway)
        except ProblemError:
            self._now = now
            with contextlib.suppress(ProblemError):
                await network.apply(now.plan, self._journal)
                await self._put_dns(now.plan.dns)
            raise
        finally:
            self._way = way  # another way to the gateway is news, which only `_look` tells

    def _ensure_tun(self) -> None:
        if self._tun is None and not self._tun_taken_over[0]:
            self._tun = open_tun()
            self.on_new_edge()

    def on_new_edge(self) -> None:
        """Gives the device to an edge that has none yet. One that only the former edge had is gone with it."""
        self._tun_taken_over = ("", 0)
        if self._tun is not None:
            self._hub.send(edge_link.SetTun(takes_udp=self._tun.takes_udp), [self._tun.fd])

    async def _put(self, owner: str, config: TunnelConfig, peers: tuple[Peer, ...], gateway: Address) -> None:
        name, index = (self._tun.name, self._tun.index) if self._tun else self._tun_taken_over
        plan = make_plan(config, await read_facts(name, index, peers))
        await network.apply(plan, self._journal)
        self._now = _InPlace(owner, config, peers, gateway, plan)
        self._way = await current_path(gateway)
        if self._mtu:
            await network.set_mtu(plan, self._mtu)
        for warning in plan.warnings:
            log.warning("plan", **warning.as_dict())
        await self._put_dns(plan.dns)

    async def _put_dns(self, wish: DnsWish | None) -> None:
        if wish is None:
            await self._revert_dns()
            return
        if self._driver is None:
            self._driver = await dns.choose_driver(self._journal.get(DNS_KEY))
        if wish == self._wish and await self._driver.verify(wish):
            return
        saved = await self._driver.saved(wish)
        await asyncio.to_thread(self._journal.put, DNS_KEY, saved)
        await self._driver.apply(wish)
        self._wish = wish

    async def _revert_dns(self) -> None:
        saved = self._journal.get(DNS_KEY)
        if self._driver is not None and saved is not None:
            await self._driver.revert(saved)
            await asyncio.to_thread(self._journal.forget, DNS_KEY)
        self._driver = self._wish = None

    # -- what depends on it ------------------------------------------------------------------------

    def udp_socket(self, transport: Transport, port: int) -> socket.socket | None:
        """A socket for ESP towards the gateway; None where there can be none: then packets go over TLS."""
        if transport.proxy:
            return None  # the proxy carries TCP alone, and the gateway may not be reachable but by it
        try:
            return connect_udp((ip_address(transport.peer_address), port))
        except ProblemError as error:
            log.warning("no-esp-socket", **error.problem.as_dict())
            return None

    async def set_mtu(self, mtu: int) -> None:
        """The path takes no larger packets."""
        async with self._changes:
            before, self._mtu = self._mtu, mtu
            if self._now is None:
                return
            most = self._now.plan.mtu
            if min(mtu, most) != min(before or most, most):
                await network.set_mtu(self._now.plan, mtu)

    async def repair(self) -> None:
        """Puts back what somebody else changed."""
        async with self._changes:
            if self._now is not None:
                now = self._now
                await _to_its_end(self._put(now.owner, now.config, now.peers, now.gateway))

    async def restore(self, owner: str) -> None:
        """Gives the machine back; nothing happens when the owner has no tunnel here. Tries everything before
        it raises ProblemError."""
        async with self._changes:
            if self._now is not None and self._now.owner != owner:
                return
            await _to_its_end(self._take_away())

    async def _take_away(self) -> None:
        problem: ProblemError | None = None
        try:
            await self._revert_dns()
        except ProblemError as error:
            problem = error
        try:
            await network.remove(self._journal)
        except ProblemError as error:
            problem = problem or error
        await asyncio.to_thread(self._remove_device)  # the kernel takes its time
        self._now, self._way, self._mtu = None, None, 0
        if problem is not None:
            raise problem

    def _remove_device(self) -> None:
        """The edge has a descriptor of the device too, so closing ours would leave it."""
        if self._tun is not None:
            with contextlib.suppress(ProblemError):
                remove_device(self._tun.index)
            self._tun.close()
            self._tun = None
        name, index = self._tun_taken_over
        if name:
            with contextlib.suppress(ProblemError):
                remove_device(index)
            self._tun_taken_over = ("", 0)

    async def idle(self) -> None:
        """Waits until no change is under way."""
        async with self._changes:
            pass

    # -- news --------------------------------------------------------------------------------------

    async def news(self) -> AsyncIterator[NetworkNews]:
        """What happens to the network, without end."""
        async with NetworkMonitor() as monitor:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN):
                        await anext(monitor)
                async with self._changes:
                    news = await _to_its_end(self._look())
                if news.events:
                    yield news

    async def _look(self) -> NetworkNews:
        now = self._now
        if now is None:
            return NetworkNews("", ())
        events: list[machine.Event] = []
        way = await current_path(now.gateway)
        if way != self._way:
            old, new = _words(self._way), _words(way)
            log.info("way-changed", old=old, new=new)
            self._way = way
            if way is None:
                events.append(machine.TransportLost(problems.NO_NETWORK.code, str(now.gateway)))
            else:
                events.append(machine.PathChanged(old, new))
        try:
            events += self._judge(now, await verify(now.plan))
            await self._follow_interfaces(now)
            self._unseen = ""
        except ProblemError as error:
            # What was seen of the way is told all the same.
            if error.problem.code != self._unseen:
                log.error("network-not-seen", **error.problem.as_dict())
            self._unseen = error.problem.code
        await self._look_at_dns()
        return NetworkNews(now.owner, tuple(events))

    def _judge(self, now: _InPlace, findings: list[Finding]) -> list[machine.Event]:
        """Events for what somebody else changed."""
        if not findings:
            return []
        for finding in findings:
            log.warning("tampering", code=finding.code, what=finding.text)
        if any(finding.code == "device-gone" for finding in findings):
            if self._tun is not None:
                self._tun.close()
            self._tun, self._tun_taken_over = None, ("", 0)
            return [machine.TransportLost("the tunnel's device was removed", str(now.gateway))]
        fatal = now.plan.disconnect_on_change
        if not fatal and not any(finding.mendable for finding in findings):
            return []  # somebody else's rule: it stays, and the firewall drops what it diverts
        what = findings[0].text.rstrip(".")
        return [machine.RoutesTampered(what, _words(self._way), what, fatal)]

    async def _follow_interfaces(self, now: _InPlace) -> None:
        """Local networks come and go; what is open towards them follows."""
        facts = await read_facts(now.plan.tun_name, now.plan.tun_index, now.peers)
        plan = make_plan(now.config, facts)
        if plan != now.plan:
            await network.apply(plan, self._journal)
            self._now = replace(now, plan=plan)
            if self._mtu:
                await network.set_mtu(plan, self._mtu)

    async def _look_at_dns(self) -> None:
        if self._driver is None or self._wish is None:
            return
        try:
            if not await self._driver.verify(self._wish):
                log.warning("dns-overwritten", driver=self._driver.name)
                wish, self._wish = self._wish, None
                await self._put_dns(wish)
        except ProblemError as error:
            log.error("dns-not-mended", **error.problem.as_dict())


async def _to_its_end(change: Coroutine[Any, Any, T]) -> T:
    """A change of the machine that has begun is finished, and only then its caller's cancellation goes on: what
    came after would else meet a thread that still changes things."""
    task = asyncio.ensure_future(change)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("given-up-change-failed", reason=str(error))
        raise


def _words(way: Way | None) -> str:
    return f"{way.source} on {way.interface}" if way is not None else "no way"


def _peers(config: TunnelConfig, saved: SavedSession) -> tuple[Peer, ...]:
    """All endpoints that our own sockets may talk to while the session lives."""
    found = [Peer(address, port, "tcp") for address, port in endpoints(saved.settings, saved.addresses)]
    if config.esp is not None:
        port = config.esp.port
        found += [Peer(address, port, "udp") for address, _ in gateways(saved.settings, saved.addresses)]
    return tuple(dict.fromkeys(found))
