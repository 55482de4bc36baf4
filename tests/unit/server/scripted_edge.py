"""An edge at the other end of the real link: says what a test tells it and writes down what it gets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lockgate.protocol import edge_link, edge_link_codec
from lockgate.protocol.avp import Avp, decode_avps
from lockgate.protocol.eap import decode_eap
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse.codes import AUTH_TYPE, Code
from lockgate.protocol.pulse.extensions import (
    CAPABILITIES,
    EXPORTER,
    TEXT_KEY,
    capability_words,
    resume_message,
)
from lockgate.protocol.pulse.questions import data_of
from lockgate.protocol.secret import Secret
from tests.unit.protocol import openconnect_frames as client_frames

T = TypeVar("T")

PATIENCE = 20.0  # seconds until a fact that does not come fails the test
SOURCE = "192.0.2.9"
FIRST_PROBE = 1 << 40  # connection numbers that no test uses itself


async def eventually(fact: Callable[[], T]) -> T:
    """What `fact` returns as soon as it is true."""
    async with asyncio.timeout(PATIENCE):
        while not (value := fact()):  # noqa: ASYNC110  # most facts have no event
            await asyncio.sleep(0.002)
        return value


class ScriptedEdge:
    """Listens on `path` while its context is open. `got` has everything but hello, keepalives and barriers.

    barriers: the number of each, and how many messages of `got` came before it. passes: answers them.
    """

    def __init__(
        self, path: Path, sessions: tuple[edge_link.SessionState, ...] = (), number: int = 1
    ) -> None:
        self.hello = edge_link.EdgeHello(edge_link.VERSION, number, sessions)
        self.got: list[edge_link.ToEdge] = []
        self.barriers: list[tuple[int, int]] = []
        self.passes = True
        self.tasks: set[asyncio.Task[object] | None] = set()
        self._path = path
        self._up = asyncio.Event()
        self._failure: Exception | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._probes = FIRST_PROBE

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()
        if self._failure is not None:
            raise self._failure

    async def die(self) -> None:
        """As the process would: no more listening, the link torn off."""
        self._server.close()
        if self._writer is not None:
            self._writer.transport.abort()
        await eventually(lambda: all(task is None or task.done() for task in self.tasks))

    async def up(self) -> None:
        """Waits until the gateway has been told hello and has answered a probe."""
        async with asyncio.timeout(PATIENCE):
            await self._up.wait()
        await self.probe()

    def say(self, *messages: edge_link.FromEdge) -> None:
        """Several messages reach the gateway in one piece, with nothing between them."""
        assert self._writer is not None
        self._writer.write(b"".join(map(edge_link_codec.encode_record, messages)))

    def of(self, *kinds: type[T]) -> list[T]:
        """The messages of these kinds, in order."""
        return [message for message in self.got if isinstance(message, kinds)]

    async def sees(self, message: edge_link.ToEdge) -> None:
        """Waits for exactly this message."""
        await eventually(lambda: message in self.got)

    async def probe(self) -> None:
        """Returns when everything said before has been dispatched, and what that sent has come back."""
        self._probes += 1
        visitor = Visitor(self, self._probes)
        visitor.connect()
        visitor.send(client_frames.VERSION)
        await visitor.next_frame()
        visitor.leave()

    def for_connection(self, conn: int) -> list[edge_link.ToEdge]:
        """Everything that names the connection."""
        return [message for message in self.got if getattr(message, "conn", None) == conn]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        self._writer = writer
        records = edge_link_codec.RecordReader()
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(1 << 16):
                    records.feed(data)
                    while (record := records.next_record()) is not None:
                        self._receive(edge_link_codec.decode_to_edge(record))
        except Exception as error:
            self._failure = error
        finally:
            writer.close()

    def _receive(self, message: edge_link.ToEdge) -> None:
        if isinstance(message, edge_link.ControlHello):
            self.say(self.hello)
            self._up.set()
        elif isinstance(message, edge_link.Barrier):
            self.barriers.append((message.number, len(self.got)))
            if self.passes:
                self.say(edge_link.BarrierPassed(message.number))
        elif not isinstance(message, edge_link.Keepalive):
            self.got.append(message)


class Visitor:
    """A client, as the edge shows it to the gateway: one connection, frame by frame."""

    def __init__(self, edge: ScriptedEdge, conn: int) -> None:
        self.edge, self.conn = edge, conn
        self.host_info = client_frames.HOST_INFO
        self.exporter = b""
        self._connected = False
        self._read = 0
        self._identifier = 0  # of the last request

    def connect(self) -> None:
        """Asks for the IF-T upgrade."""
        self._connected = True
        self.edge.say(self.opened())

    def opened(self) -> edge_link.ConnOpened:
        """What the edge says of its connection."""
        return edge_link.ConnOpened(
            conn=self.conn,
            peer=f"{SOURCE}:50000",
            local="192.0.2.1:443",
            tls_version="TLSv1.3",
            tls_cipher="TLS_AES_256_GCM_SHA384",
            tls_group="X25519",
            server_name="gw.example.org",
            client_certificates=(),
            host="gw.example.org",
            path="/",
            user_agent="test",
            cookie=Secret(b""),
            exporter=Secret(self.exporter),
        )

    def message(self, frame: Frame) -> edge_link.LinkFrame:
        """A frame of this client on the link."""
        return edge_link.LinkFrame(self.conn, frame.vendor, int(frame.kind), frame.body)

    def send(self, *frames: Frame) -> None:
        """All frames in one piece."""
        self.edge.say(*map(self.message, frames))

    def leave(self, session: int = 0) -> None:
        """The TLS connection is gone."""
        self.edge.say(edge_link.ConnClosed(self.conn, session, "eof"))

    def frames(self) -> list[edge_link.LinkFrame]:
        """All frames to this client."""
        return [m for m in self.edge.of(edge_link.LinkFrame) if m.conn == self.conn]

    async def next_frame(self) -> edge_link.LinkFrame:
        """The next frame to this client that has not been read yet."""
        await eventually(lambda: len(self.frames()) > self._read)
        self._read += 1
        return self.frames()[self._read - 1]

    async def next_request(self) -> bytes:
        """The AVPs of the next request, which `answer` then answers."""
        packet = decode_eap((await self.next_frame()).body[len(AUTH_TYPE) :])
        self._identifier = packet.identifier
        return packet.data

    def answer(self, *avps: Avp) -> Frame:
        """The response to the last request."""
        return client_frames.response(self._identifier, *avps)

    async def introduce(self, *facts: Avp) -> None:
        """From the connection, if there is none yet, to the first thing the gateway has to decide."""
        if not self._connected:
            self.connect()
        self.send(client_frames.VERSION, self.host_info, client_frames.IDENTITY)
        await self.next_frame()
        await self.next_frame()
        await self.next_request()
        self.send(self.answer(client_frames.own(Code.USER_AGENT, b"test"), *facts))

    async def show_cookie(self, cookie: Secret) -> None:
        """Comes back with a cookie; the gateway's answer is not read yet."""
        await self.introduce(client_frames.own(Code.COOKIE, cookie.reveal()))

    async def sign_in(self, name: bytes, password: bytes) -> None:
        """Answers the question for name and password; the gateway's answer is not read yet."""
        await self.introduce()
        await self.next_request()
        credentials = client_frames.inner(2, client_frames.password(password))
        self.send(self.answer(client_frames.own(Code.USER_NAME, name), credentials))

    async def enter(self, cookie: Secret) -> Secret:
        """From the cookie through the acknowledgement; the cookie for the next time."""
        await self.show_cookie(cookie)
        return await self.accept()

    async def next_cookie(self) -> Secret | None:
        """What the next request brings: a cookie, or a refusal without one."""
        data = data_of(decode_avps(await self.next_request()), Code.COOKIE)
        return None if data is None else Secret(data)

    async def accept(self) -> Secret:
        """Acknowledges the cookie that comes now."""
        cookie = await self.next_cookie()
        assert cookie is not None
        self.send(self.answer())
        return cookie


class OwnClient(Visitor):
    """A Lockgate client: announces `capabilities` and signs with `key` for its own TLS connection."""

    def __init__(
        self,
        edge: ScriptedEdge,
        conn: int,
        key: Ed25519PrivateKey | None = None,
        capabilities: Iterable[str] = CAPABILITIES,
    ) -> None:
        super().__init__(edge, conn)
        self.exporter = conn.to_bytes(EXPORTER)
        self.key = key
        words = f" {TEXT_KEY}={capability_words(capabilities)}\n\0".encode()
        plain = client_frames.HOST_INFO
        self.host_info = Frame(plain.vendor, plain.kind, plain.body.removesuffix(b"\n\0") + words)

    def sign(self, cookie: Secret) -> bytes:
        """The proof for this connection."""
        assert self.key is not None
        return self.key.sign(resume_message(self.exporter, cookie))

    async def introduce(self, *facts: Avp) -> None:
        """With the public key, unless it comes back with a cookie."""
        if self.key is not None and not any(fact.code == Code.COOKIE for fact in facts):
            facts += (client_frames.own(Code.SESSION_KEY, self.key.public_key().public_bytes_raw()),)
        await super().introduce(*facts)

    async def show_cookie(self, cookie: Secret, proof: bytes | None = None) -> None:
        """proof: the right one, unless a test says another."""
        facts = [client_frames.own(Code.COOKIE, cookie.reveal())]
        if proof is None and self.key is not None:
            proof = self.sign(cookie)
        if proof:
            facts.append(client_frames.own(Code.RESUME_PROOF, proof))
        await self.introduce(*facts)
