"""From a gateway's name to IF-T on TLS: through the web proxy first, then directly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from lockgate.client import problems
from lockgate.client.linux.resolve import prefer, resolve
from lockgate.client.linux.sockets import MARK, connect_tcp
from lockgate.client.segments import Address
from lockgate.client.service.front import Cancelled, Front, FrontGone
from lockgate.client.service.hub import EdgeGone, EdgeHub, Wire
from lockgate.client.service.resume_key import user_agent
from lockgate.client.service.sign_in import AttemptError
from lockgate.client.service.trust import KnownHosts, SystemRoots, describe
from lockgate.client.settings import ConnectionSettings
from lockgate.model.problem import ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.edge_link import DialFailure
from lockgate.protocol.errors import PeerError
from lockgate.protocol.gateway_url import GatewayUrl
from lockgate.protocol.http_connect import AnswerReader, Connected, ConnectRequest, NeedsCredentials
from lockgate.protocol.secret import Secret

log = structlog.get_logger("dialer")

CONNECT_PATIENCE = 10.0  # seconds for TCP, all addresses together
PROXY_PATIENCE = 10.0  # seconds for the proxy's answer
DIAL_PATIENCE = 20.0  # seconds for the edge's word; its own limit is 15

# What a person may accept: the chain or the dates are in doubt. Another name or key never.
_ACCEPTABLE = {DialFailure.UNTRUSTED}
# The answer may be another one next time.
_PASSING = {
    DialFailure.TLS,
    DialFailure.CLOSED,
    DialFailure.TIMEOUT,
    DialFailure.HTTP,
    DialFailure.HTTP_STATUS,
}
# Dates were right at the session's sign-in: somebody set this machine's clock, and may set it right.
_OF_THE_CLOCK = {DialFailure.EXPIRED, DialFailure.NOT_YET_VALID}


Pinned: TypeAlias = Mapping[str, tuple[Address, ...]]
"""Addresses of the names that a connection needs, the one that worked last in front."""


@dataclass(frozen=True, slots=True)
class Transport:
    """An IF-T connection that waits for its conversation."""

    wire: Wire
    peer: str  # "address:port" of what TCP talks to
    peer_address: str
    peer_port: int
    local: str  # our address of the TCP connection
    proxy: str  # "host:port" of the web proxy, or empty
    pin: bytes
    verified: bool  # the certificate was good by itself
    exporter: Secret
    tls: tuple[str, str, str]
    addresses: Pinned


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a session knows about its gateway from its sign-in; empty for a new one."""

    pin: bytes = b""
    verified: bool = False  # the certificate was good by itself, and must be again
    addresses: Pinned = field(default_factory=dict)


class Dialer:
    """Opens transports. Raises AttemptError."""

    def __init__(self, hub: EdgeHub, known: KnownHosts, roots: SystemRoots) -> None:
        self._hub, self._known, self._roots = hub, known, roots

    async def open(self, settings: ConnectionSettings, expected: Expectation, front: Front) -> Transport:
        """A transport to the gateway of `settings`, through its proxy first."""
        if settings.proxy:
            try:
                return await self._through(settings, settings.proxy, expected, front)
            except AttemptError as error:
                if error.problem.code != "proxy-failed":
                    raise
                log.warning("proxy-failed", proxy=settings.proxy, reason=error.problem.summary)
        return await self._through(settings, "", expected, front)

    async def _through(
        self, settings: ConnectionSettings, proxy: str, expected: Expectation, front: Front
    ) -> Transport:
        server = settings.server
        host = f"{server.host}:{server.port}"
        roots, wanted = self._trust(settings, host, expected)
        while True:
            answer = await self._dial(server, proxy, roots, wanted, expected.addresses)
            if isinstance(answer, Transport):
                break
            if not await self._accepts(settings, host, answer, front, first=not wanted):
                passing = _PASSING | _OF_THE_CLOCK if expected.pin else _PASSING
                raise AttemptError(
                    problems.dial_failed(answer.cause, answer.detail, server.host),
                    final=answer.cause not in passing,
                )
            roots, wanted = (), answer.pin
            self._known.accepted(host, answer.pin)
        if roots and not settings.roots:
            with contextlib.suppress(ProblemError):
                self._known.verified(host)
        return answer

    def _trust(
        self, settings: ConnectionSettings, host: str, expected: Expectation
    ) -> tuple[tuple[bytes, ...], bytes]:
        """Roots and pin of a dial."""
        roots = settings.roots or self._roots.get()
        if expected.pin:  # a session: the same key as at its sign-in, and still good by itself if it was
            return (roots if expected.verified else ()), expected.pin
        if settings.pin:
            return (settings.roots if settings.roots else ()), settings.pin
        known = self._known.get(host)
        if known is not None and known.pin and not settings.roots:
            return (), known.pin
        return roots, b""

    async def _accepts(
        self,
        settings: ConnectionSettings,
        host: str,
        failure: edge_link.DialFailed,
        front: Front,
        *,
        first: bool,
    ) -> bool:
        """Asks the user about a certificate, where that is allowed: never for a host that was verified
        before, never instead of a key that was expected."""
        known = self._known.get(host)
        allowed = (
            first
            and settings.trust_prompt
            and not settings.roots
            and failure.cause in _ACCEPTABLE
            and failure.pin
            and not (known is not None and known.verified)
        )
        if not allowed:
            return False
        with contextlib.suppress(FrontGone, Cancelled):
            fields = await front.ask("certificate", await asyncio.to_thread(describe, failure))
            return fields.get("accept") is True
        return False

    async def _dial(
        self,
        server: GatewayUrl,
        proxy: str,
        roots: tuple[bytes, ...],
        pin: bytes,
        pinned: Pinned,
    ) -> Transport | edge_link.DialFailed:
        if proxy:
            sock, addresses = await self._tcp_by_proxy(server, proxy, pinned)
        else:
            sock, addresses = await self._tcp(server.host, server.port, pinned)
        wire = self._hub.new_wire()
        done = False
        try:
            peer, local = sock.getpeername(), sock.getsockname()
            self._hub.send(
                edge_link.Dial(
                    conn=wire.conn,
                    server_name=server.host,
                    roots=roots,
                    pin=pin,
                    host=server.authority,
                    path=server.path or "/",
                    user_agent=user_agent(),
                ),
                [sock.fileno()],
            )
            try:
                async with asyncio.timeout(DIAL_PATIENCE):
                    message = await wire.next()
            except TimeoutError:
                raise AttemptError(problems.SERVER_SILENT, final=False) from None
            except EdgeGone:
                raise AttemptError(problems.EDGE_DIED, final=False, system=True) from None
            if isinstance(message, edge_link.DialFailed):
                return message
            if not isinstance(message, edge_link.Dialed):
                raise AttemptError(problems.server_closed("while connecting"), final=False)
            done = True
            address, port = _plain(peer)
            return Transport(
                wire=wire,
                peer=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
                peer_address=address,
                peer_port=port,
                local=_plain(local)[0],
                proxy=proxy,
                pin=message.pin,
                verified=bool(roots),
                exporter=message.exporter,
                tls=(message.tls_version, message.tls_cipher, message.tls_group),
                addresses=addresses,
            )
        finally:
            sock.close()  # the edge has its own descriptor
            if not done:
                self._hub.drop_wire(wire)

    async def _tcp(self, host: str, port: int, pinned: Pinned) -> tuple[socket.socket, Pinned]:
        try:
            addresses = pinned.get(host) or await resolve(host)
            connected = await connect_tcp(addresses, port, MARK, timeout=CONNECT_PATIENCE)
        except ProblemError as error:
            raise AttemptError(
                error.problem, final=False, system=error.problem.code == "no-network"
            ) from None
        return connected.sock, {host: prefer(addresses, connected.peer[0])}

    async def _tcp_by_proxy(
        self, server: GatewayUrl, proxy: str, pinned: Pinned
    ) -> tuple[socket.socket, Pinned]:
        host, _, port = proxy.rpartition(":")
        try:
            name = host.removeprefix("[").removesuffix("]")
            sock, addresses = await self._tcp(name, int(port), pinned)
        except AttemptError as error:
            raise AttemptError(problems.proxy_failed(proxy, error.problem.summary), final=False) from None
        loop = asyncio.get_running_loop()
        reader = AnswerReader()
        try:
            async with asyncio.timeout(PROXY_PATIENCE):
                await loop.sock_sendall(sock, ConnectRequest(server.host, server.port, None).encode())
                while (answer := reader.result) is None:
                    data = await loop.sock_recv(sock, 4096)
                    if not data:
                        raise PeerError("it closed the connection")
                    reader.feed(data)
        except (PeerError, OSError, TimeoutError) as error:
            sock.close()
            reason = "it does not answer" if isinstance(error, TimeoutError) else str(error)
            raise AttemptError(problems.proxy_failed(proxy, reason), final=False) from None
        if not isinstance(answer, Connected):
            sock.close()
            if isinstance(answer, NeedsCredentials):
                reason = "it wants a user name and a password"
            else:
                reason = f"it answered {answer.status} {answer.reason}".rstrip()
            raise AttemptError(problems.proxy_failed(proxy, reason), final=False)
        return sock, addresses


def _plain(name: tuple[str, int]) -> tuple[str, int]:
    """Address and port of a socket name, IPv4-mapped addresses as what they are, zones left out."""
    address = name[0].partition("%")[0]
    return address.removeprefix("::ffff:") if "." in address else address, name[1]
