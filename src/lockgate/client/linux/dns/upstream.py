"""One question to one name server, over UDP or TCP, on a socket of its own.

A fresh connected socket gives a fresh random source port, and the kernel passes on nothing but that server's
datagrams and its refusals.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from lockgate.client.linux.dns.wish import Address

PORT = 53
_MAX_ANSWER = 65535  # RFC 1035, section 4.2.2: a 16-bit length


async def over_udp(
    server: Address, message: bytes, accept: Callable[[bytes], bool], *, interface: str = "", port: int = PORT
) -> bytes:
    """The first datagram that `accept` takes. No deadline of its own.

    interface: leave through this device or not at all; empty: as the machine routes.
    raises: OSError when the network or the server says no.
    """
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_DGRAM, interface) as sock:
        await loop.sock_connect(sock, _sockaddr(server, port))
        await loop.sock_sendall(sock, message)
        while True:
            answer = await loop.sock_recv(sock, _MAX_ANSWER)
            if accept(answer):
                return answer


async def over_tcp(
    server: Address, message: bytes, accept: Callable[[bytes], bool], *, interface: str = "", port: int = PORT
) -> bytes:
    """As over_udp. raises: OSError also when the connection ends or carries another answer."""
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_STREAM, interface) as sock:
        await loop.sock_connect(sock, _sockaddr(server, port))
        await loop.sock_sendall(sock, len(message).to_bytes(2, "big") + message)
        length = int.from_bytes(await _exactly(sock, 2), "big")
        answer = await _exactly(sock, length)
        if not accept(answer):
            raise ConnectionError("the server answered another question")
        return answer


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise ConnectionError("the server ended the connection")
        data += more
    return data


def _socket(server: Address, kind: socket.SocketKind, interface: str) -> socket.socket:
    family = socket.AF_INET if server.version == 4 else socket.AF_INET6
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except BaseException:
        sock.close()
        raise
    return sock


def _sockaddr(server: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """raises: OSError for a zone that is no interface (any more)."""
    if server.version == 4:
        return str(server), port
    zone = getattr(server, "scope_id", None)
    scope = 0 if zone is None else int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    return str(server).partition("%")[0], port, 0, scope
