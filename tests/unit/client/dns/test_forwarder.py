"""The forwarder between real sockets on loopback addresses; the lab has the real programs around it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from lockgate.client.linux.dns import forwarder as module
from lockgate.client.linux.dns.forwarder import Forwarder
from lockgate.client.linux.dns.forwarding import Routes
from lockgate.client.linux.dns.probe import Health, probe
from lockgate.client.linux.dns.wish import Address

pytestmark = pytest.mark.anyio

HERE = ip_address("127.84.0.1")
INSIDE, SECOND, OUTSIDE, NOBODY = (ip_address(f"127.84.1.{n}") for n in (1, 2, 3, 4))

Answer = Callable[[dns.message.Message], list[bytes]]


def _good(message: dns.message.Message) -> list[bytes]:
    response = dns.message.make_response(message)
    response.answer = [dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "192.0.2.80")]
    return [response.to_wire()]


def _silent(_: dns.message.Message) -> list[bytes]:
    return []


def _code(code: dns.rcode.Rcode) -> Answer:
    def answer(message: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(message)
        response.set_rcode(code)
        return [response.to_wire()]

    return answer


class Server(asyncio.DatagramProtocol):
    """A name server that answers as told and remembers what it was asked, over UDP and TCP."""

    def __init__(self) -> None:
        self.answer: Answer = _good
        self.asked: list[tuple[str, int, int]] = []  # name, id, source port
        self.transport: asyncio.DatagramTransport

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.asked]

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:  # type: ignore[override]
        for wire in self.hear(data, peer[1]):
            self.transport.sendto(wire, peer)

    def hear(self, data: bytes, port: int) -> list[bytes]:
        message = dns.message.from_wire(data)
        self.asked.append((message.question[0].name.to_text(), message.id, port))
        return self.answer(message)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            for wire in self.hear(data, writer.get_extra_info("peername")[1]):
                writer.write(struct.pack("!H", len(wire)) + wire)
            await writer.drain()
        writer.close()


class Net:
    """Servers on one free port, and a forwarder before them."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.servers: dict[Address, Server] = {}
        self._stack = contextlib.AsyncExitStack()

    async def server(self, address: Address, answer: Answer = _good) -> Server:
        transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
            Server, (str(address), self.port)
        )
        self._stack.callback(transport.close)
        listener = await asyncio.start_server(server.connected, str(address), self.port)
        await self._stack.enter_async_context(listener)
        server.answer = answer
        self.servers[address] = server
        return server

    async def forwarder(self, inside: tuple[Address, ...] = (INSIDE,)) -> Forwarder:
        routes = Routes(inside, "lo", ("corp.example",), (OUTSIDE,), ("lan",))
        forwarder = Forwarder(routes, address=HERE, port=self.port, upstream_port=self.port)
        await forwarder.start()
        self._stack.push_async_callback(forwarder.close)
        return forwarder

    async def ask(self, name: str, *, tcp: bool = False) -> dns.message.Message:
        query = dns.message.make_query(name, "A")
        transport = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await transport(query, str(HERE), timeout=20, port=self.port)

    async def close(self) -> None:
        await self._stack.aclose()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((str(HERE), 0))
        return sock.getsockname()[1]


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    net = Net()
    yield net
    await net.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is recognised sooner, but still later than a busy machine's loopback takes."""
    monkeypatch.setattr(module, "_PATIENCE", 1.0)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_each_name_is_asked_on_its_side(net: Net, tcp: bool) -> None:
    inside, outside = await net.server(INSIDE), await net.server(OUTSIDE)
    await net.forwarder()
    for name in ("www.corp.example", "www.example.net", "x.corp.example.lan"):
        await net.ask(name, tcp=tcp)
    assert inside.names == ["www.corp.example."]
    assert outside.names == ["www.example.net."]
    assert (await net.ask("x.corp.example.lan")).rcode() == dns.rcode.NXDOMAIN


async def test_a_silent_tunnel_is_a_failure_and_never_asked_for_outside(net: Net, hasty: None) -> None:
    inside, outside = await net.server(INSIDE, _silent), await net.server(OUTSIDE)
    await net.forwarder((INSIDE, NOBODY))  # nobody listens there: refused at once
    assert (await net.ask("www.corp.example")).rcode() == dns.rcode.SERVFAIL
    assert len(inside.asked) == 2
    # Known to be silent: one try, so that a machine full of programs does not wait for it.
    assert (await net.ask("www.corp.example")).rcode() == dns.rcode.SERVFAIL
    assert (await net.ask("www.example.net")).rcode() == dns.rcode.NOERROR
    assert outside.names == ["www.example.net."]


async def test_the_deadline_is_the_last_word(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEADLINE", 0.05)
    await net.server(INSIDE, _silent)
    await net.forwarder()
    assert (await net.ask("www.corp.example")).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    "first",
    [_silent, _code(dns.rcode.SERVFAIL), _code(dns.rcode.REFUSED)],
    ids=["silent", "fails", "refuses"],
)
async def test_the_second_server_helps_out(net: Net, hasty: None, first: Answer) -> None:
    await net.server(INSIDE, first)
    second = await net.server(SECOND)
    await net.forwarder((INSIDE, SECOND))
    assert (await net.ask("www.corp.example")).rcode() == dns.rcode.NOERROR
    assert second.names == ["www.corp.example."]


async def test_a_silent_server_is_asked_last_from_then_on(net: Net, hasty: None) -> None:
    first = await net.server(INSIDE, _silent)
    await net.server(SECOND)
    await net.forwarder((INSIDE, SECOND))
    for _ in range(3):
        assert (await net.ask("www.corp.example")).rcode() == dns.rcode.NOERROR
    assert len(first.asked) == 1


async def test_that_a_name_does_not_exist_is_an_answer(net: Net) -> None:
    await net.server(INSIDE, _code(dns.rcode.NXDOMAIN))
    second = await net.server(SECOND)
    await net.forwarder((INSIDE, SECOND))
    assert (await net.ask("www.corp.example")).rcode() == dns.rcode.NXDOMAIN
    assert second.asked == []


async def test_forged_and_damaged_answers_are_waited_out(net: Net) -> None:
    def answer(message: dns.message.Message) -> list[bytes]:
        right = _good(message)[0]
        other_id = struct.pack("!H", message.id ^ 1) + right[2:]
        other_name = _good(dns.message.make_query("evil.corp.example", "A", id=message.id))[0]
        return [other_id, other_name, right[:7], b"", right]

    await net.server(INSIDE, answer)
    await net.forwarder()
    told = await net.ask("www.corp.example")
    assert told.answer[0].name == dns.name.from_text("www.corp.example")


async def test_numbers_and_ports_differ(net: Net) -> None:
    inside = await net.server(INSIDE)
    await net.forwarder()
    for _ in range(20):
        await net.ask("www.corp.example")
    assert len({ident for _, ident, _ in inside.asked}) > 15
    assert len({port for _, _, port in inside.asked}) > 15


async def test_an_answer_too_long_for_udp_comes_over_tcp(net: Net) -> None:
    def answer(message: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(message)
        name = message.question[0].name
        response.answer = [dns.rrset.from_text(name, 60, "IN", "A", *(f"10.9.8.{n}" for n in range(200)))]
        return [response.to_wire()]

    await net.server(INSIDE, answer)
    await net.forwarder()
    assert (await net.ask("www.corp.example")).flags & dns.flags.TC
    assert len((await net.ask("www.corp.example", tcp=True)).answer[0]) == 200


async def test_too_many_questions_for_one_side_leave_the_other_alone(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_QUERIES", 3)
    monkeypatch.setattr(module, "_DEADLINE", 60.0)
    monkeypatch.setattr(module, "_PATIENCE", 60.0)
    heard = asyncio.Event()
    inside, _ = await net.server(INSIDE, _silent), await net.server(OUTSIDE)
    inside.answer = lambda _: (heard.set() if len(inside.asked) == 3 else None) or []
    await net.forwarder()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(net.ask(f"n{n}.corp.example")) for n in range(3)]
        await heard.wait()
        assert (await net.ask("one-more.corp.example")).rcode() == dns.rcode.SERVFAIL
        assert (await net.ask("www.example.net")).rcode() == dns.rcode.NOERROR
        for task in waiting:
            task.cancel()
    assert "one-more.corp.example." not in inside.names


async def test_garbage_ends_nothing(net: Net) -> None:
    await net.server(INSIDE)
    forwarder = await net.forwarder()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for junk in (b"", b"\0" * 12, b"\xff" * 5000, bytes(range(200))):
            sock.sendto(junk, (str(HERE), net.port))
    _, writer = await asyncio.open_connection(str(HERE), net.port)
    writer.write(b"\xff\xff" + b"x" * 100)
    assert (await net.ask("www.corp.example")).rcode() == dns.rcode.NOERROR
    writer.close()
    assert forwarder.running


async def test_a_taken_address_is_an_error_and_leaves_nothing_open(net: Net) -> None:
    await net.server(HERE)
    forwarder = Forwarder(Routes((INSIDE,), "lo"), address=HERE, port=net.port)
    with pytest.raises(OSError, match="in use"):
        await forwarder.start()
    assert not forwarder.running


async def test_probe(net: Net) -> None:
    await net.server(INSIDE)
    await net.server(SECOND, _silent)
    (silent,) = await probe((SECOND,), 0.1, port=net.port)
    assert silent.health is Health.SILENT
    found = await probe((INSIDE, NOBODY), 20.0, port=net.port)
    assert [each.health for each in found] == [Health.ANSWERS, Health.REFUSED]
    assert found[0].rcode == 0
    assert found[0].seconds is not None
    (elsewhere,) = await probe((INSIDE,), 20.0, interface="no-such-device", port=net.port)
    assert elsewhere.health is Health.UNREACHABLE
