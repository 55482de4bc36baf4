"""The system's message bus, as far as the client calls other services on it."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any

from dbus_fast import BusType, DBusError, InvalidAddressError, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError

_DEADLINE = 5.0
"""Seconds for one call. Those we call answer in milliseconds; a frozen one must not freeze the client."""
_DBUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class NoBusError(Exception):
    """There is no system bus to be reached."""


class BusError(Exception):
    """A call was refused or not answered. name: the error's name on the bus, empty without an answer."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}" if name else text)
        self.name = name


class SystemBus:
    """One connection: `async with SystemBus() as bus`. Entering raises NoBusError."""

    def __init__(self) -> None:
        self.bus: MessageBus

    async def __aenter__(self) -> SystemBus:
        try:
            self.bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
            async with asyncio.timeout(_DEADLINE):
                await self.bus.connect()
        except (OSError, TimeoutError, EOFError, AuthError, InvalidAddressError, DBusError) as error:
            raise NoBusError(str(error) or type(error).__name__) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bus.disconnect()

    async def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        """The reply's values. raises: BusError."""
        return (await self.exchange(destination, path, interface, member, signature, *body)).body

    async def exchange(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> Message:
        """The reply itself, for those that carry descriptors. raises: BusError."""
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(_DEADLINE):
                reply = await self.bus.call(message)
        except TimeoutError:
            raise BusError("", f"{destination} does not answer") from None
        except (OSError, EOFError, DBusError) as error:
            raise BusError("", str(error) or type(error).__name__) from error
        if reply is None:
            raise BusError("", "the bus ended the connection")
        if reply.message_type is MessageType.ERROR:
            raise BusError(reply.error_name or "", str(reply.body[0]) if reply.body else "")
        return reply

    async def wait_for_end(self) -> None:
        """Until the bus ends the connection, for whatever reason."""
        with contextlib.suppress(OSError, EOFError, DBusError):
            await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call,unused-ignore]

    async def has_owner(self, name: str) -> bool:
        """Whether a service of this name runs; asking does not start it."""
        return bool((await self.call(*_DBUS, "NameHasOwner", "s", name))[0])

    async def owner(self, name: str) -> str:
        """The unique name of the connection that has this name. raises: BusError when nobody has it."""
        return str((await self.call(*_DBUS, "GetNameOwner", "s", name))[0])

    async def add_match(self, rule: str) -> None:
        await self.call(*_DBUS, "AddMatch", "s", rule)
