"""The user is told in time that the session ends."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lockgate.client import machine
from lockgate.client.machine import Via
from lockgate.client.reminder import minutes_to_tell, next_change
from lockgate.client.service import connection, report
from lockgate.client.service.clock import Clock
from lockgate.client.service.connection import Connection, Services
from lockgate.client.settings import parse_settings
from lockgate.protocol.pulse.config import TunnelConfig


@pytest.mark.parametrize(
    ("left", "reminder", "minutes", "change"),
    [
        (1000.0, 300, 0, 700.0),
        (300.0, 300, 5, 60.0),
        (299.5, 300, 5, 59.5),
        (240.5, 300, 5, 0.5),
        (240.0, 300, 4, 60.0),
        (90.0, 90, 2, 30.0),
        (59.0, 300, 1, 59.0),
        (0.0, 300, 1, 0.0),
        (59.0, 0, 0, 59.0),
        (5.0, 1 << 31, 1, 5.0),
    ],
)
def test_when_and_what(left: float, reminder: int, minutes: int, change: float) -> None:
    assert (minutes_to_tell(left, reminder), next_change(left, reminder)) == (minutes, change)


class World:
    """A connection on its way up, whose session ends at 1000."""

    def __init__(self, **config: Any) -> None:
        self.now, self.told = 0.0, list[str]()
        clock = Clock(now=lambda: self.now, wall=lambda: self.now, boot="b")
        services = SimpleNamespace(clock=clock, changed=lambda it: self.told.append(self.note))
        self.connection = Connection(
            "c1",
            1000,
            parse_settings({"server": "https://gw.test/"}),
            cast(Services, services),
            state=machine.Configuring(1, session=False),
        )
        told = TunnelConfig(mtu=1400, address4=IPv4Address("10.88.0.2"), **config)
        self.connection.tunnel = cast(Any, SimpleNamespace(config=told, suite=None, esp_started=False))
        self.connection.saved = cast(
            Any, SimpleNamespace(deadline=1000.0, started=0.0, user="alice", realm="Users", idle=0)
        )

    @property
    def note(self) -> str:
        return str(report.status(self.connection)["note"])

    def at(self, moment: float) -> str:
        """The note after a look at the clock at that moment."""
        self.now = moment
        self.connection._on_deadline()
        return self.note


class Recorder:
    """Keeps what is logged, whatever another test made of the process's logging."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **more: Any) -> None:
        self.lines.append({"event": event, **more})

    debug = warning = error = info


def test_from_the_reminder_on_the_note_says_it_and_the_log_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Recorder()
    monkeypatch.setattr(connection, "log", log)

    async def work() -> None:
        world = World(reminder=300)
        world.connection.happen(machine.TunnelUp())
        assert world.at(699.0) == ""
        assert world.at(700.0) == "the session ends in 5 minutes: sign in again"
        assert world.at(761.0) == "the session ends in 4 minutes: sign in again"
        assert report.state_line(world.connection)["note"] == world.note
        world.connection.happen(machine.ViaChanged(Via.TLS))
        assert world.told == [
            "",
            "the session ends in 5 minutes: sign in again",
            "the session ends in 4 minutes: sign in again",
        ]
        assert isinstance(world.connection._expiry, asyncio.TimerHandle)
        world.connection._expiry.cancel()

    asyncio.run(work())
    assert [line["minutes"] for line in log.lines if line["event"] == "session-ends-soon"] == [5]


def test_a_tunnel_that_comes_late_says_it_at_once() -> None:
    async def work() -> list[str]:
        world = World(reminder=300)
        world.now = 941.0
        world.connection.happen(machine.TunnelUp())
        for _ in range(100):
            await asyncio.sleep(0)
        assert world.connection._expiry is not None
        world.connection._expiry.cancel()
        return world.told

    assert asyncio.run(work()) == ["", "the session ends in 1 minute: sign in again"]


def test_without_a_reminder_nothing_is_said() -> None:
    async def work() -> None:
        world = World()
        world.connection.happen(machine.TunnelUp())
        assert world.at(999.0) == ""
        assert world.connection._expiry is not None
        world.connection._expiry.cancel()

    asyncio.run(work())


@pytest.mark.parametrize("allowed", [True, False])
def test_whether_passwords_may_be_kept(allowed: bool) -> None:
    network = cast(Any, SimpleNamespace(owner="", interface="", decisions=[]))
    told = report.details(World(password_caching=allowed).connection, network)
    assert told["password_caching"] is allowed
