"""The gateway says what belongs in the running tunnel: one change at a time, the latest word, kept for the next service."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lockgate.client import machine
from lockgate.client.linux.journal import Journal
from lockgate.client.linux.monitor import Path as Route
from lockgate.client.machine import Via
from lockgate.client.network_plan import LocalFacts, NetworkPlan, Peer, Way
from lockgate.client.plan import make_plan
from lockgate.client.segments import Address, Network
from lockgate.client.service import network as service_network
from lockgate.client.service import split_networks
from lockgate.client.service.clock import Clock
from lockgate.client.service.connection import Connection, Services
from lockgate.client.service.network import TunnelNetwork, _InPlace
from lockgate.client.service.saved_session import SessionStore
from lockgate.client.service.tunnel import Tunnel
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.edge_link import CloseConn, LinkFrame
from lockgate.protocol.if_t import VENDOR_JUNIPER, JuniperKind
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.config import TunnelConfig, encode_config
from lockgate.protocol.pulse.split_networks import encode_split_networks
from tests.unit.client.service.test_saved_session import session

CONN = 99
CONFIG = TunnelConfig(mtu=1400, address4=IPv4Address("10.88.0.2"), include=(ip_network("10.77.0.0/16"),))
NO = ProblemError(Problem("network-refused", "The kernel refused.", "Try again."))


class ScriptedNetwork:
    """The machine, as far as it is told of other configurations: each change waits until `go`."""

    def __init__(self, config: TunnelConfig) -> None:
        self.config, self.changes = config, list[tuple[Network, ...]]()
        self.fails, self.under_way = False, 0
        self.go = asyncio.Event()

    async def change(self, owner: str, before: TunnelConfig, config: TunnelConfig) -> bool:
        assert owner == "c1"
        self.under_way += 1
        assert self.under_way == 1
        await self.go.wait()
        self.under_way -= 1
        if before is not self.config:
            return False
        if self.fails:
            raise NO
        self.config = config
        self.changes.append(config.include)
        return True


class World:
    """A connected client; its edge is a list of what it was told."""

    def __init__(self, folder: Path) -> None:
        clock = Clock(now=lambda: 0.0, wall=lambda: 1_700_000_000.0, boot="b")
        self.told, self.tasks = list[Any](), list[asyncio.Task[None]]()
        self.store, self.network = SessionStore(folder, clock), ScriptedNetwork(CONFIG)
        hub = SimpleNamespace(send=lambda message, _=(): self.told.append(message))
        services = SimpleNamespace(
            clock=clock, store=self.store, hub=hub, network=self.network, spawn=self._spawn
        )
        saved = session("c1", suspended=False, configuration=encode_config(CONFIG), split=b"")
        self.connection = Connection(
            "c1",
            1000,
            saved.settings,
            cast(Services, services),
            state=machine.Connected(Via.TLS),
            saved=saved,
        )
        self.connection.tunnel = Tunnel(
            cast(Any, hub), saved.session, saved.generation, CONN, ClientConversation.in_tunnel(), CONFIG
        )
        self.store.save(saved)

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def hears(self, *include: str, body: bytes | None = None) -> None:
        if body is None:
            body = encode_split_networks(tuple(map(ip_network, include)), ())
        kind = int(JuniperKind.SPLIT_NETWORKS)
        self.connection.on_edge(LinkFrame(conn=CONN, vendor=VENDOR_JUNIPER, kind=kind, body=body))

    async def done(self) -> None:
        self.network.go.set()
        await asyncio.gather(*self.tasks)

    @property
    def on_disk(self) -> TunnelConfig:
        [saved] = self.store.load_all()
        return saved.config()


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_networks, "PAUSE", 0.0)


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


def test_the_latest_word_counts_and_changes_run_one_at_a_time(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        for number in range(100):
            world.hears(f"10.{number}.0.0/16")
            await asyncio.sleep(0)
        assert world.on_disk == CONFIG  # nothing is done yet
        await world.done()
        assert world.network.changes == [networks("10.0.0.0/16"), networks("10.99.0.0/16")]
        assert world.connection.config == world.on_disk == replace(CONFIG, include=networks("10.99.0.0/16"))
        assert world.told == []

    asyncio.run(work())


def test_what_is_in_place_already_is_left_alone(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.hears("10.77.0.0/16")
        await world.done()
        assert world.network.changes == []
        assert world.connection.config is CONFIG

    asyncio.run(work())


def test_what_the_machine_refuses_leaves_what_was_there_and_the_next_word_is_heard(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.network.fails = True
        world.hears("10.1.0.0/16")
        await world.done()
        assert world.connection.config is CONFIG
        assert world.on_disk == CONFIG
        world.network.fails = False
        world.hears("10.2.0.0/16")
        await world.done()
        assert world.on_disk.include == networks("10.2.0.0/16")

    asyncio.run(work())


def test_a_word_for_the_former_tunnel_does_nothing_to_the_next(tmp_path: Path) -> None:
    """It came back meanwhile, with a configuration that says the same as the one before."""

    async def work() -> None:
        world = World(tmp_path)
        world.hears("10.1.0.0/16")
        await asyncio.sleep(0)
        again = replace(CONFIG)
        world.network.config = again
        assert world.connection.tunnel is not None
        former, world.connection.tunnel = (
            world.connection.tunnel,
            Tunnel(cast(Any, None), 7, 4, CONN, ClientConversation.in_tunnel(), again),
        )
        await world.done()
        assert world.network.changes == []
        assert former.config is CONFIG
        assert world.on_disk == CONFIG

    asyncio.run(work())


@pytest.mark.parametrize(
    "state", [machine.Suspended(), machine.Closing(None), machine.Opening(1, session=True)]
)
def test_without_a_running_tunnel_nothing_moves(tmp_path: Path, state: machine.State) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.connection.state = state
        world.hears("10.1.0.0/16")
        await world.done()
        assert world.tasks == []

    asyncio.run(work())


def test_a_gateway_that_says_nonsense_is_left(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.hears(body=b"\0\1\0\0\4\x21\x0a\0\0\0")
        assert world.told == [CloseConn(conn=CONN)]
        assert world.tasks == []

    asyncio.run(work())


# -- the machine's side of it ----------------------------------------------------------------------


class Kernel:
    """In place of what needs root: which plans were put in place, and whether the next one is refused."""

    def __init__(self) -> None:
        self.plans, self.fails = list[NetworkPlan](), False

    async def apply(self, plan: NetworkPlan, journal: Journal) -> None:
        if self.fails:
            self.fails = False
            raise NO
        self.plans.append(plan)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()

    async def facts(name: str, index: int, peers: tuple[Peer, ...]) -> LocalFacts:
        return LocalFacts(name, index, peers)

    async def path(gateway: Address) -> Route:
        return Route("wlan0", ip_address("192.0.2.9"), None)

    monkeypatch.setattr(service_network.network, "apply", kernel.apply)
    monkeypatch.setattr(service_network, "read_facts", facts)
    monkeypatch.setattr(service_network, "current_path", path)
    return kernel


def in_place(folder: Path) -> TunnelNetwork:
    """The network of c1's tunnel with CONFIG, by a way that has become another meanwhile."""
    machine_network = TunnelNetwork(cast(Any, None), folder)
    gateway = ip_address("203.0.113.2")
    plan = make_plan(CONFIG, LocalFacts("lockgate0", 7))
    machine_network._now = _InPlace("c1", CONFIG, (), gateway, plan)
    machine_network._tun_taken_over = ("lockgate0", 7)
    machine_network._way = Route("eth0", ip_address("198.51.100.2"), None)
    return machine_network


OTHER = replace(CONFIG, include=networks("10.66.0.0/16"))


def test_what_is_in_place_becomes_another_and_a_new_way_to_the_gateway_stays_news(
    tmp_path: Path, kernel: Kernel
) -> None:
    async def work() -> None:
        network = in_place(tmp_path)
        assert await network.change("c1", CONFIG, OTHER)
        [plan] = kernel.plans
        assert plan.way(ip_address("10.66.1.1")) is Way.TUNNEL
        assert plan.way(ip_address("10.77.1.1")) is None
        assert network._way is not None
        assert network._way.interface == "eth0"
        # From here on what was there before is not the present any more.
        assert not await network.change("c1", CONFIG, OTHER)
        assert len(kernel.plans) == 1

    asyncio.run(work())


def test_only_the_owner_of_what_is_in_place_changes_it(tmp_path: Path, kernel: Kernel) -> None:
    async def work() -> None:
        network = in_place(tmp_path)
        assert not await network.change("c2", CONFIG, OTHER)
        assert not await network.change("c1", replace(CONFIG), OTHER)  # another connection said the same
        network._now = None
        assert not await network.change("c1", CONFIG, OTHER)
        assert kernel.plans == []

    asyncio.run(work())


def test_a_change_that_fails_puts_back_what_was_there(tmp_path: Path, kernel: Kernel) -> None:
    async def work() -> None:
        network = in_place(tmp_path)
        kernel.fails = True
        with pytest.raises(ProblemError):
            await network.change("c1", CONFIG, OTHER)
        assert [plan.way(ip_address("10.77.1.1")) for plan in kernel.plans] == [Way.TUNNEL]
        assert await network.change("c1", CONFIG, OTHER)

    asyncio.run(work())
