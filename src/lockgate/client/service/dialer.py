"""From a gateway's name to IF-T on TLS: through the web proxy first, then directly."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import structlog

from lockgate.client import problems
from lockgate.client.service.front import Cancelled, Front, FrontGone
from lockgate.client.service.hub import EdgeGone, EdgeHub, Wire
from lockgate.client.service.resume_key import user_agent
from lockgate.client.service.sign_in import AttemptError
from lockgate.client.service.tcp import Pinned, connect, connect_through
from lockgate.client.service.trust import KnownHosts, SystemRoots, describe
from lockgate.client.settings import ConnectionSettings
from lockgate.model.problem import ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.edge_link import DialFailure
from lockgate.protocol.gateway_url import GatewayUrl
from lockgate.protocol.secret import Secret

log = structlog.get_logger("dialer")

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
# Between us and the gateway stands the proxy: it may be the one that spoils this.
_OF_THE_PROXY = {DialFailure.TLS, DialFailure.CLOSED, DialFailure.TIMEOUT}


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

    async def open(
        self, settings: ConnectionSettings, expected: Expectation, front: Front, uid: int
    ) -> Transport:
        """A transport to the gateway of `settings`, through its proxy first. uid: whose decisions count."""
        if settings.proxy:
            try:
                return await self._through(settings, settings.proxy, expected, front, uid)
            except AttemptError as error:
                if error.problem.code != "proxy-failed":
                    raise
                log.warning("proxy-failed", proxy=settings.proxy, reason=error.problem.summary)
        return await self._through(settings, "", expected, front, uid)

    async def _through(
        self, settings: ConnectionSettings, proxy: str, expected: Expectation, front: Front, uid: int
    ) -> Transport:
        server = settings.server
        host = f"{server.host}:{server.port}"
        roots, wanted, remembered = self._trust(settings, host, expected, uid)
        answer = await self._dial(server, proxy, roots, wanted, expected.addresses)
        if remembered and _is(answer, DialFailure.PIN_MISMATCH):
            # A key that the user once accepted gives way to a certificate that needs nobody's word; to
            # another one that does, never.
            roots = self._roots.get()
            better = await self._dial(server, proxy, roots, b"", expected.addresses)
            answer = better if isinstance(better, Transport) else answer
        elif isinstance(answer, edge_link.DialFailed) and not wanted:
            failure = answer
            if await self._accepts(settings, host, failure, front, uid):
                self._known.accepted(host, failure.pin, uid)
                roots = ()
                answer = await self._dial(server, proxy, roots, failure.pin, expected.addresses)
        if isinstance(answer, edge_link.DialFailed):
            if proxy and answer.cause in _OF_THE_PROXY:
                raise AttemptError(problems.proxy_failed(proxy, answer.detail), final=False)
            passing = _PASSING | _OF_THE_CLOCK if expected.pin else _PASSING
            raise AttemptError(
                problems.dial_failed(answer.cause, answer.detail, server.host),
                final=answer.cause not in passing,
            )
        if roots and not settings.roots:
            with contextlib.suppress(ProblemError):
                self._known.verified(host)
        return answer

    def _trust(
        self, settings: ConnectionSettings, host: str, expected: Expectation, uid: int
    ) -> tuple[tuple[bytes, ...], bytes, bool]:
        """Roots and pin of a dial, and whether the pin is one that the user accepted earlier."""
        roots = settings.roots or self._roots.get()
        if expected.pin:  # a session: the same key as at its sign-in, and still good by itself if it was
            return (roots if expected.verified else ()), expected.pin, False
        if settings.pin:
            return settings.roots, settings.pin, False
        known = self._known.get(host, uid)
        if known is not None and known.pin and not settings.roots:
            return (), known.pin, True
        return roots, b"", False

    async def _accepts(
        self,
        settings: ConnectionSettings,
        host: str,
        failure: edge_link.DialFailed,
        front: Front,
        uid: int,
    ) -> bool:
        """Asks the user about a certificate, where that is allowed: never for a host that was verified
        before."""
        known = self._known.get(host, uid)
        allowed = (
            settings.trust_prompt
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
            sock, addresses = await connect_through(server, proxy, pinned)
        else:
            sock, addresses = await connect(server.host, server.port, pinned)
        try:
            peer, local = sock.getpeername(), sock.getsockname()
        except OSError as error:  # it was reset already
            sock.close()
            raise AttemptError(problems.server_closed(str(error)), final=False) from None
        wire = self._hub.new_wire()
        done = False
        try:
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


def _is(answer: Transport | edge_link.DialFailed, cause: DialFailure) -> bool:
    return isinstance(answer, edge_link.DialFailed) and answer.cause is cause


def _plain(name: tuple[str, int]) -> tuple[str, int]:
    """Address and port of a socket name, IPv4-mapped addresses as what they are, zones left out."""
    address = name[0].partition("%")[0]
    return address.removeprefix("::ffff:") if "." in address else address, name[1]
