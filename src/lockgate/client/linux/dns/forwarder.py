"""The split forwarder: a name server on a loopback address, for machines whose resolver cannot divide names.

Receives, lets `forwarding` decide, asks by `upstream`, replies. Ends with the service; until the next service
or `lockgate client reset` there is then no name resolution, which is better than corporate names outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections import Counter

import dns.rcode
import structlog

from lockgate.client.linux.dns import forwarding, upstream
from lockgate.client.linux.dns.forwarding import Query, Routes, Way
from lockgate.client.linux.dns.wish import Address

MAX_QUERIES = 128
"""At once, inside and outside counted apart, so that one side's silence does not stop the other. Each is a
socket; a browser opening a page asks for some dozens."""
MAX_CONNECTIONS = 32
"""TCP clients at once; one more is turned away."""
_IDLE = 10.0
"""Seconds a TCP client may take for a whole question."""
_PATIENCE = 1.5
"""Seconds for one server's answer. Below glibc's 5 for two servers in a row."""
_DEADLINE = 4.0
"""Seconds until a client is told that there is no answer, before glibc's 5 are over."""
_SHUNNED = 15.0
"""Seconds for which a server that was silent is asked after the others, and alone only once."""
_TRY_ANOTHER = (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)

log = structlog.get_logger()


class Forwarder:
    """`start` binds and begins, `close` ends; `routes` may be exchanged at any time."""

    def __init__(
        self,
        routes: Routes,
        *,
        address: Address = forwarding.ADDRESS,
        port: int = upstream.PORT,
        upstream_port: int = upstream.PORT,
    ) -> None:
        self.routes, self.address, self.port = routes, address, port
        self._upstream_port = upstream_port
        self._task: asyncio.Task[None] | None = None
        self._open: Counter[Way] = Counter()
        self._connections = 0
        self._silent_until: dict[Address, float] = {}

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """raises: OSError when the address is taken or forbidden."""
        kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        sockets = []
        try:
            for kind in kinds:
                sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                sockets.append(sock)
                if kind == socket.SOCK_STREAM:
                    # Connections of a former service still waiting for their end do not keep us out.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((str(self.address), self.port))
            sockets[1].listen(MAX_CONNECTIONS)
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        self._task = asyncio.create_task(self._run(*sockets), name="dns-forwarder")

    async def close(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            log.error("dns-forwarder-ended", reason=str(group.exceptions[0]))
        self._task = None

    async def resolve(self, query: Query, *, over_udp: bool) -> bytes:
        """The reply for the client, within _DEADLINE and whatever the servers do."""
        way = self.routes.way(query.text)
        if way is Way.NOWHERE:
            return forwarding.failure(query, dns.rcode.NXDOMAIN)
        if self._open[way] >= MAX_QUERIES:
            return forwarding.failure(query, dns.rcode.SERVFAIL)
        self._open[way] += 1
        try:
            async with asyncio.timeout(_DEADLINE):
                answer = await self._ask_servers(query, way, over_udp=over_udp)
        except TimeoutError:
            answer = None
        finally:
            self._open[way] -= 1
        if answer is None:
            return forwarding.failure(query, dns.rcode.SERVFAIL)
        return forwarding.reply(query, answer, over_udp=over_udp)

    async def _ask_servers(self, query: Query, way: Way, *, over_udp: bool) -> bytes | None:
        """Their first useful answer, else their last useless one, else None."""
        routes, now = self.routes, asyncio.get_running_loop().time()
        servers = sorted(routes.servers(way), key=lambda server: self._silent_until.get(server, 0.0) > now)
        all_silent = all(self._silent_until.get(server, 0.0) > now for server in servers)
        interface = routes.interface if way is Way.INSIDE else ""
        answer = None
        for server in servers * (1 if all_silent or not over_udp else 2):
            got = await self._ask(server, query, interface, over_udp=over_udp)
            if got is not None:
                answer = got
                if forwarding.rcode(got) not in _TRY_ANOTHER:
                    break
        return answer

    async def _ask(self, server: Address, query: Query, interface: str, *, over_udp: bool) -> bytes | None:
        ident = secrets.randbelow(1 << 16)
        message = forwarding.ask(query, ident)
        transport = upstream.over_udp if over_udp else upstream.over_tcp
        try:
            async with asyncio.timeout(_PATIENCE):
                answer = await transport(
                    server,
                    message,
                    lambda wire: forwarding.is_answer(wire, query, ident),
                    interface=interface,
                    port=self._upstream_port,
                )
        except TimeoutError:
            self._silent_until[server] = asyncio.get_running_loop().time() + _SHUNNED
            return None
        except OSError:
            return None
        self._silent_until.pop(server, None)
        return answer

    async def _run(self, udp: socket.socket, tcp: socket.socket) -> None:
        with udp, tcp:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._serve_udp(udp, group), name="dns-udp")
                group.create_task(self._serve_tcp(tcp, group), name="dns-tcp")

    async def _serve_udp(self, sock: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wire, peer = await loop.sock_recvfrom(sock, forwarding.MAX_QUERY + 1)
            group.create_task(self._answer_datagram(sock, wire, peer), name="dns-query")

    async def _answer_datagram(self, sock: socket.socket, wire: bytes, peer: tuple[str, int]) -> None:
        answer = await self._answer(wire, over_udp=True)
        if answer is not None:
            with contextlib.suppress(OSError):  # a client that has gone
                await asyncio.get_running_loop().sock_sendto(sock, answer, peer)

    async def _serve_tcp(self, sock: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(sock)
            except OSError as error:
                # Out of descriptors, or a client gone before its turn: the next ones may fare better.
                log.warning("dns-accept-failed", reason=str(error))
                await asyncio.sleep(0.1)
                continue
            if self._connections >= MAX_CONNECTIONS:
                client.close()
                continue
            self._connections += 1
            group.create_task(self._serve_connection(client), name="dns-connection")

    async def _serve_connection(self, client: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                while True:
                    async with asyncio.timeout(_IDLE):
                        length = int.from_bytes(await reader.readexactly(2), "big")
                        if length > forwarding.MAX_QUERY:
                            break
                        wire = await reader.readexactly(length)
                    answer = await self._answer(wire, over_udp=False)
                    if answer is None:
                        break
                    async with asyncio.timeout(_IDLE):
                        writer.write(len(answer).to_bytes(2, "big") + answer)
                        await writer.drain()
            finally:
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client's affair
        finally:
            self._connections -= 1

    async def _answer(self, wire: bytes, *, over_udp: bool) -> bytes | None:
        query = forwarding.read_query(wire)
        if not isinstance(query, Query):
            return query
        try:
            return await self.resolve(query, over_udp=over_udp)
        except Exception:
            # One strange message must not end everybody's name resolution.
            log.exception("dns-query-failed")
            return forwarding.failure(query, dns.rcode.SERVFAIL)
