"""Suspend and wake, as logind tells them.

While `Sleep` is being handled the machine waits for us (logind's delay lock, five seconds by its default); the
lock is let go when the next event is asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import structlog
from dbus_fast import Message, MessageType

from lockgate.client.linux.system_bus import BusError, NoBusError, SystemBus

_LOGIN = "org.freedesktop.login1"
_MANAGER = (_LOGIN, "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_RULE = (
    "type='signal',sender='org.freedesktop.login1',interface='org.freedesktop.login1.Manager',"
    "member='PrepareForSleep',path='/org/freedesktop/login1'"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sleep:
    """The machine is about to suspend."""


@dataclass(frozen=True, slots=True)
class Wake:
    """It has woken."""


async def sleep_events() -> AsyncGenerator[Sleep | Wake, None]:
    """Events until the bus ends; none at once where there is no bus. Use `contextlib.aclosing` around it."""
    try:
        async with SystemBus() as bus:
            async for event in _events(bus):
                yield event
    except NoBusError as error:
        log.info("sleep-not-announced", reason=str(error))
    except BusError as error:
        log.warning("sleep-no-longer-announced", reason=str(error))


async def _events(bus: SystemBus) -> AsyncGenerator[Sleep | Wake, None]:
    # One signal for each change of a machine's state: a bound would only be reached after years of not reading.
    signals: asyncio.Queue[tuple[str, bool] | None] = asyncio.Queue()

    def hear(message: Message) -> None:
        if (
            message.message_type is MessageType.SIGNAL
            and message.interface == _MANAGER[2]
            and message.member == "PrepareForSleep"
            and message.signature == "b"
        ):
            signals.put_nowait((message.sender or "", bool(message.body[0])))

    bus.bus.add_message_handler(hear)
    await bus.add_match(_RULE)
    lock = await _delay_sleep(bus)
    # A task group may not be left open over a `yield`.
    end = asyncio.create_task(_tell_end(bus, signals), name="bus-end")
    try:
        while (signal := await signals.get()) is not None:
            sender, asleep = signal
            # Any program may send us a signal of this name.
            if sender != await bus.owner(_LOGIN):
                continue
            if asleep:
                yield Sleep()
                _let_go(lock)
                lock = None
            else:
                lock = lock if lock is not None else await _delay_sleep(bus)
                yield Wake()
    finally:
        _let_go(lock)
        end.cancel()


async def _tell_end(bus: SystemBus, signals: asyncio.Queue[tuple[str, bool] | None]) -> None:
    await bus.wait_for_end()
    signals.put_nowait(None)


async def _delay_sleep(bus: SystemBus) -> int | None:
    """logind's delay lock as a descriptor; None where logind gives none: its signals are still worth hearing."""
    try:
        reply = await bus.exchange(
            *_MANAGER,
            "Inhibit",
            "ssss",
            "sleep",
            "Lockgate",
            "tells the gateway and keeps the session",
            "delay",
        )
    except BusError as error:
        log.info("sleep-not-delayed", reason=str(error))
        return None
    return reply.unix_fds[0] if reply.unix_fds else None


def _let_go(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
