"""The gateway moves the end of a session: timer, edge, what is on disk and what the user reads follow."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lockgate.client import machine
from lockgate.client.machine import Via
from lockgate.client.service import report
from lockgate.client.service.clock import Clock
from lockgate.client.service.connection import Connection, Services
from lockgate.client.service.saved_session import SessionStore
from lockgate.client.service.tunnel import Tunnel
from lockgate.protocol.edge_link import CloseConn, LinkFrame, SetDeadline
from lockgate.protocol.if_t import VENDOR_JUNIPER, JuniperKind
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.config import TunnelConfig
from tests.unit.client.service.test_saved_session import session

CONN = 99
SOON = "the session ends in {} minutes: sign in again"


class World:
    """A connected client at moment 0 whose session ends at 1000; its edge is a list of what it was told."""

    def __init__(self, folder: Path) -> None:
        self.now, self.told, self.begun = 0.0, list[Any](), list[str]()
        clock = Clock(now=lambda: self.now, wall=lambda: 1_700_000_000.0 + self.now, boot="b")
        self.store = SessionStore(folder, clock)
        hub = SimpleNamespace(send=lambda message, _=(): self.told.append(message))
        services = SimpleNamespace(
            clock=clock,
            store=self.store,
            hub=hub,
            changed=lambda _: None,
            spawn=self._spawn,
            events=SimpleNamespace(write=lambda *_, **__: None),
        )
        saved = session("c1", deadline=1000.0, suspended=False)
        self.connection = Connection(
            "c1",
            1000,
            saved.settings,
            cast(Services, services),
            state=machine.Connected(Via.TLS),
            saved=saved,
        )
        config = TunnelConfig(mtu=1400, address4=IPv4Address("10.88.0.2"), reminder=300)
        self.connection.tunnel = Tunnel(
            cast(Any, hub), saved.session, saved.generation, CONN, ClientConversation.in_tunnel(), config
        )
        self.store.save(saved)

    def _spawn(self, work: Any, name: str) -> None:
        work.close()
        self.begun.append(name)

    def hears(self, body: bytes) -> None:
        """The gateway says something about the end."""
        kind = int(JuniperKind.REMAINING)
        self.connection.on_edge(LinkFrame(conn=CONN, vendor=VENDOR_JUNIPER, kind=kind, body=body))

    def at(self, moment: float) -> str:
        """What the user reads after a look at the clock at that moment."""
        self.now = moment
        self.connection._on_deadline()
        return str(report.status(self.connection)["note"])

    @property
    def left(self) -> int:
        """Seconds, as `lockgate details` tells them."""
        network = cast(Any, SimpleNamespace(owner="", interface="", decisions=[]))
        return int(report.details(self.connection, network)["session_remaining"])

    @property
    def on_disk(self) -> float:
        [saved] = self.store.load_all()
        return saved.deadline

    def stop(self) -> None:
        if self.connection._expiry is not None:
            self.connection._expiry.cancel()


def test_everything_follows_a_later_end(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        assert world.at(800.0) == SOON.format(4)
        world.hears((3600).to_bytes(4))
        assert world.told == [SetDeadline(session=7, remaining=3600, idle=0)]
        assert (world.left, world.on_disk) == (3600, 4400.0)
        assert world.at(800.0) == ""
        assert world.at(1000.0) == ""  # the former end
        assert isinstance(world.connection.state, machine.Connected)
        assert world.at(4100.0) == SOON.format(5)
        world.at(4400.0)
        assert not isinstance(world.connection.state, machine.Connected)
        assert world.begun == ["end of c1"]
        world.stop()

    asyncio.run(work())


def test_the_timer_itself_is_set_anew(tmp_path: Path) -> None:
    """Nobody looks at the clock: what is due now is said now, and what is not due is taken back."""

    async def work() -> None:
        world = World(tmp_path)
        for seconds, minutes in ((250, 5), (3600, 0), (61, 2)):
            world.hears(seconds.to_bytes(4))
            while world.connection.state != machine.Connected(Via.TLS, minutes=minutes):  # noqa: ASYNC110
                await asyncio.sleep(0)
        world.stop()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_the_reminder_of_another_end_is_a_reminder_of_its_own(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.at(800.0)
        assert world.connection._reminded
        world.hears((250).to_bytes(4))  # still soon: said already
        assert world.connection._reminded
        world.hears((3600).to_bytes(4))
        assert not world.connection._reminded
        world.stop()

    asyncio.run(work())


def test_a_full_disk_does_not_end_what_was_extended(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        (tmp_path / "sessions").rename(tmp_path / "gone")
        world.hears((3600).to_bytes(4))
        assert world.told == [SetDeadline(session=7, remaining=3600, idle=0)]
        assert world.left == 3600
        world.stop()

    asyncio.run(work())


@pytest.mark.parametrize("body", [b"", bytes(4), b"\0\x0e\x10", b"\0\0\x0e\x10\0"])
def test_what_is_no_end_moves_nothing(tmp_path: Path, body: bytes) -> None:
    world = World(tmp_path)
    world.hears(body)
    assert world.told == [CloseConn(conn=CONN)]
    assert (world.left, world.on_disk) == (1000, 1000.0)


@pytest.mark.parametrize("state", [machine.Suspended(), machine.Closing(None)], ids=["suspended", "closing"])
def test_nothing_moves_the_end_of_a_session_without_a_tunnel(tmp_path: Path, state: machine.State) -> None:
    world = World(tmp_path)
    world.connection.state = state
    world.hears((3600).to_bytes(4))
    assert world.told == []
    assert world.on_disk == 1000.0
