"""Suspend and wake on a real bus. logind itself needs a machine it may suspend, so a stand-in has its name."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method

from lockgate.client.linux.sleep import Sleep, Wake, sleep_events
from tests.e2e.client_dns.machines import start_bus
from tests.lab.host import Host
from tests.lab.place import lab_directory

pytestmark = pytest.mark.anyio

_count = itertools.count(1)


class Login(ServiceInterface):
    """Hands out delay locks: pipes, whose reading end tells whether the lock is still held."""

    def __init__(self) -> None:
        super().__init__("org.freedesktop.login1.Manager")
        self.locks: list[int] = []
        self._given: list[int] = []
        self.asked: list[tuple[str, ...]] = []

    @dbus_method()
    def Inhibit(self, what: "s", who: "s", why: "s", mode: "s") -> "h":  # type: ignore[name-defined]  # noqa: F821, UP037
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.asked.append((what, mode))
        self.locks.append(reading)
        self._given.append(writing)
        return writing

    def held(self) -> list[bool]:
        while self._given:  # our copies of what was sent by now
            os.close(self._given.pop())
        return [self._held(lock) for lock in self.locks]

    def _held(self, lock: int) -> bool:
        try:
            return os.read(lock, 1) != b""
        except BlockingIOError:
            return True


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host("sleeper", lab_directory() / f"sleep{next(_count)}")
    for name, value in start_bus(host).items():
        monkeypatch.setenv(name, value)
    yield host
    host.close()


@pytest.fixture
async def login(host: Host) -> AsyncIterator[tuple[Login, MessageBus]]:
    bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    login = Login()
    bus.export("/org/freedesktop/login1", login)
    await bus.request_name("org.freedesktop.login1")
    yield login, bus
    bus.disconnect()
    for lock in login.locks:
        os.close(lock)


def _started(events: AsyncIterator[Sleep | Wake]) -> asyncio.Task[Sleep | Wake | None]:
    """The next event, asked for already; None at the end."""

    async def following() -> Sleep | Wake | None:
        return await anext(events, None)

    return asyncio.create_task(following())


async def _until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 - another program's doing
            await asyncio.sleep(0.01)


def prepare_for_sleep(bus: MessageBus, start: bool) -> None:
    bus.send(
        Message.new_signal(
            "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PrepareForSleep", "b", [start]
        )
    )


async def test_the_machine_waits_while_sleep_is_handled(login: tuple[Login, MessageBus], host: Host) -> None:
    logind, bus = login
    async with contextlib.aclosing(sleep_events()) as events:
        first = _started(events)
        await _until(lambda: logind.asked == [("sleep", "delay")])
        prepare_for_sleep(bus, True)
        assert await first == Sleep()
        assert logind.held() == [True]
        second = _started(events)
        await _until(lambda: logind.held() == [False])
        prepare_for_sleep(bus, False)
        assert await second == Wake()
        assert logind.held() == [False, True]
        third = _started(events)
        prepare_for_sleep(bus, True)
        assert await third == Sleep()
    await _until(lambda: logind.held() == [False, False])


async def test_a_strangers_signal_says_nothing(login: tuple[Login, MessageBus]) -> None:
    logind, bus = login
    stranger = await MessageBus(bus_type=BusType.SYSTEM).connect()
    async with contextlib.aclosing(sleep_events()) as events:
        first = _started(events)
        await _until(lambda: len(logind.asked) == 1)
        reply = await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="ListNames",
            )
        )
        assert reply is not None
        for name in reply.body[0]:
            message = Message.new_signal(
                "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PrepareForSleep", "b", [True]
            )
            message.destination = name
            stranger.send(message)
        await stranger.introspect("org.freedesktop.DBus", "/org/freedesktop/DBus")  # all of it is through
        prepare_for_sleep(bus, False)
        assert await first == Wake()
    stranger.disconnect()


async def test_without_a_bus_there_is_nothing_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={lab_directory()}/nowhere")
    assert [event async for event in sleep_events()] == []


async def test_the_end_of_the_bus_ends_the_events(login: tuple[Login, MessageBus], host: Host) -> None:
    logind, _ = login
    async with contextlib.aclosing(sleep_events()) as events:
        first = _started(events)
        await _until(lambda: len(logind.asked) == 1)
        host.stop_programs()
        assert await first is None
