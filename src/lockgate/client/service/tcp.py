"""TCP to a gateway, by its name or through a web proxy, with the addresses that a session keeps to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import TypeAlias

from lockgate.client import problems
from lockgate.client.linux.resolve import prefer, resolve
from lockgate.client.linux.sockets import MARK, connect_tcp
from lockgate.client.segments import Address
from lockgate.client.service.sign_in import AttemptError
from lockgate.client.settings import ConnectionSettings
from lockgate.model.problem import ProblemError
from lockgate.protocol.errors import PeerError
from lockgate.protocol.gateway_url import GatewayUrl
from lockgate.protocol.http_connect import AnswerReader, Connected, ConnectRequest, NeedsCredentials

CONNECT_PATIENCE = 10.0  # seconds for TCP, all addresses together
PROXY_PATIENCE = 10.0  # seconds for the proxy's answer
LOOK_UP_PATIENCE = 2.0  # seconds for a name that is not needed now; behind a proxy often nobody knows it

Pinned: TypeAlias = Mapping[str, tuple[Address, ...]]
"""Addresses of the names that a connection needs, the one that worked last in front."""


async def connect(host: str, port: int, pinned: Pinned) -> tuple[socket.socket, Pinned]:
    """A connection, and the addresses of `host`. Raises AttemptError."""
    try:
        addresses = pinned.get(host) or await resolve(host)
        connected = await connect_tcp(addresses, port, MARK, timeout=CONNECT_PATIENCE)
    except ProblemError as error:
        raise AttemptError(error.problem, final=False, system=error.problem.code == "no-network") from None
    return connected.sock, {host: prefer(addresses, connected.peer[0])}


async def connect_through(server: GatewayUrl, proxy: str, pinned: Pinned) -> tuple[socket.socket, Pinned]:
    """The same through the proxy "host:port"; the addresses are the proxy's, and the gateway's where they are
    known: when the proxy goes away nobody can be asked any more. AttemptError "proxy-failed"."""
    name, port = split_proxy(proxy)
    try:
        sock, addresses = await connect(name, port, pinned)
    except AttemptError as error:
        raise AttemptError(problems.proxy_failed(proxy, error.problem.summary), final=False) from None
    try:
        await _ask(sock, server)
        direct = await _look_up(server.host, pinned)
    except BaseException as error:
        sock.close()
        match error:
            case TimeoutError():
                reason = "it does not answer"
            case PeerError() | OSError():
                reason = str(error)
            case _:
                raise
        raise AttemptError(problems.proxy_failed(proxy, reason), final=False) from None
    return sock, {**direct, **addresses}


async def _look_up(host: str, pinned: Pinned) -> Pinned:
    try:
        return {host: pinned.get(host) or await resolve(host, timeout=LOOK_UP_PATIENCE)}
    except ProblemError:
        return {}


async def _ask(sock: socket.socket, server: GatewayUrl) -> None:
    """PeerError when the proxy does not say yes."""
    loop = asyncio.get_running_loop()
    reader = AnswerReader()
    async with asyncio.timeout(PROXY_PATIENCE):
        await loop.sock_sendall(sock, ConnectRequest(server.host, server.port, None).encode())
        while (answer := reader.result) is None:
            data = await loop.sock_recv(sock, 4096)
            if not data:
                raise PeerError("it closed the connection")
            reader.feed(data)
    if isinstance(answer, NeedsCredentials):
        raise PeerError("it wants a user name and a password")
    if not isinstance(answer, Connected):
        raise PeerError(f"it answered {answer.status} {answer.reason}".rstrip())


def split_proxy(proxy: str) -> tuple[str, int]:
    """Name, IPv6 without brackets, and port of "host:port"."""
    host, _, port = proxy.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def gateways(settings: ConnectionSettings, pinned: Pinned) -> list[tuple[Address, int]]:
    """The gateway's own endpoints."""
    return [(address, settings.server.port) for address in pinned.get(settings.server.host, ())]


def endpoints(settings: ConnectionSettings, pinned: Pinned) -> list[tuple[Address, int]]:
    """All that the connection may talk TCP to: the gateway, and its proxy."""
    found = gateways(settings, pinned)
    if settings.proxy:
        name, port = split_proxy(settings.proxy)
        found += [(address, port) for address in pinned.get(name, ())]
    return found
