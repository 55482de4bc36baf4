"""Syslog: what a real listener gets, and what happens when there is none."""

import asyncio
import re
import socket

import pytest

from lockgate.server.config.tree.system import SyslogTarget
from lockgate.server.config.values import Endpoint, parse_address
from lockgate.server.store.interface import AuditEntry
from lockgate.server.syslog import AuditFeed, Syslog, Target, message
from tests.unit.server.store_support import new_store, run, same_store

ENTRY = AuditEntry(1_700_000_000.25, "sign-in", "ok", "", "alice", "192.0.2.9", 2**62, "hello", "user", "", 7)

MESSAGES = [
    (
        ENTRY,
        b'<134>1 2023-11-14T22:13:20.250000Z gw lockgate - sign-in [lockgate@32473 log="user" outcome="ok"'
        b' user="alice" source="192.0.2.9" session="4611686018427387904" revision="7"] sign-in ok user alice hello',
    ),
    (
        AuditEntry(
            0.0, "config-commit", "failed", "conflict", "", "local", None, "", "admin", 'a"b]c\\\\d', None
        ),
        b'<132>1 1970-01-01T00:00:00.000000Z gw lockgate - config-commit [lockgate@32473 log="admin"'
        b' outcome="failed" reason="conflict" actor="a\\"b\\]c\\\\\\\\d" source="local"] config-commit failed conflict',
    ),
    (
        AuditEntry(0.0, "x y", "ok", "", "ü", "", None, "ö"),
        b'<134>1 1970-01-01T00:00:00.000000Z gw lockgate - x_y [lockgate@32473 log="events" outcome="ok"'
        b' user="\xc3\xbc"] \xef\xbb\xbfx y ok user \xc3\xbc \xc3\xb6',
    ),
]


@pytest.mark.parametrize(("entry", "expected"), MESSAGES)
def test_messages(entry, expected):
    assert message(entry, facility="local0", host_name="gw") == expected


def test_facility_and_host_name():
    assert message(ENTRY, facility="local7", host_name="a b\n").startswith(
        b"<190>1 2023-11-14T22:13:20.250000Z a_b_ "
    )
    assert b" - lockgate " in message(ENTRY, facility="local0", host_name="")


def target(port, transport="udp", name="loghost", address="127.0.0.1", **logs):
    return SyslogTarget(
        name=name,
        address=Endpoint(parse_address(address), port),
        transport=transport,
        facility="local3",
        **logs,
    )


def listener(address="127.0.0.1"):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.setblocking(False)
    return sock


def entry(text, log="user"):
    return AuditEntry(1.0, "noted", "ok", "", "", "", None, text, log)


async def until(fact):
    """Lets others run until `fact` is true; `run` has a deadline."""
    if not fact():
        await asyncio.sleep(0.001)
        await until(fact)


async def running(syslog):
    task = asyncio.create_task(syslog.run())
    await asyncio.sleep(0)
    return task


async def stopped(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_datagrams_to_a_real_listener(address):
    async def work():
        loop = asyncio.get_running_loop()
        with listener(address) as sock, listener(address) as other:
            syslog = Syslog("gw")
            port, theirs = sock.getsockname()[1], other.getsockname()[1]
            syslog.configure([target(port, address=address, admin_access=False)], "gw")
            task = await running(syslog)
            for text, log in (("one", "user"), ("two", "admin"), ("three", "events")):
                syslog.offer(entry(text, log))
            got = [await loop.sock_recv(sock, 9999) for _ in range(2)]
            assert [each.split()[-1] for each in got] == [b"one", b"three"]
            assert got[0].startswith(b"<158>1 1970-01-01T00:00:01.000000Z gw lockgate - noted ")
            # Another configuration counts from the next event on; nobody has to be started again.
            syslog.configure([target(theirs, address=address, events=False)], "gw")
            syslog.offer(entry("four", "events"))
            syslog.offer(entry("five", "admin"))
            assert (await loop.sock_recv(other, 9999)).endswith(b"five")
            syslog.configure([], "gw")
            syslog.offer(entry("six"))
            await stopped(task)
            with pytest.raises(BlockingIOError):
                sock.recv(9999)

    run(work())


def test_a_datagram_that_nobody_wants_disturbs_nobody():
    async def work():
        with listener() as sock:
            port = sock.getsockname()[1]
        syslog = Syslog("gw")
        syslog.configure([target(port)])
        task = await running(syslog)
        for number in range(5):
            syslog.offer(entry(str(number)))
            await syslog.drain(5)
        assert syslog.dropped == 0
        await stopped(task)

    run(work())


class Listener:
    """A TCP syslog server: messages cut by the length before them."""

    def __init__(self):
        self.messages = asyncio.Queue()
        self.connections = []

    async def start(self, port=0):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)
        return self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        self.connections.append(writer)
        try:
            while True:
                length = await reader.readuntil(b" ")
                self.messages.put_nowait(await reader.readexactly(int(length)))
        except asyncio.IncompleteReadError:
            writer.close()

    async def stop(self):
        self.server.close()
        for writer in self.connections:
            writer.transport.abort()
        await self.server.wait_closed()

    async def text(self):
        return (await self.messages.get()).split()[-1].decode()


def test_streams_to_a_real_listener_that_goes_and_comes_back(monkeypatch):
    monkeypatch.setattr("lockgate.server.syslog.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("lockgate.server.syslog.LONGEST_PAUSE", 0.02)

    async def work():
        first = Listener()
        port = await first.start()
        syslog = Syslog("gw")
        syslog.configure([target(port, "tcp")])
        task = await running(syslog)
        for text in ("one", "two two", "ü\n"):
            syslog.offer(entry(text))
        assert [await first.text() for _ in range(3)] == ["one", "two", "ü"]
        await syslog.drain(5)
        await first.stop()
        await until(lambda: not syslog.targets[0].connected)
        syslog.offer(entry("while-away"))
        again = Listener()
        await again.start(port)
        syslog.offer(entry("back"))
        assert [await again.text(), await again.text()] == ["while-away", "back"]
        # What stays the same keeps its connection.
        syslog.configure([target(port, "tcp"), target(port, "tcp", name="second")])
        syslog.offer(entry("both"))
        assert [await again.text(), await again.text()] == ["both", "both"]
        assert len(again.connections) == 2
        await stopped(task)
        await again.stop()

    run(work())


def test_a_server_that_does_not_listen_costs_a_bounded_queue(monkeypatch):
    monkeypatch.setattr("lockgate.server.syslog.FIRST_PAUSE", 0.01)

    async def work():
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # bound and not listening: refused
            port = closed.getsockname()[1]
            silent = Target(target(port, "tcp"), "gw", queued=3)
            for number in range(8):
                silent.offer(entry(f"n{number}"))
            task = asyncio.create_task(silent.run())
            await asyncio.sleep(0.05)
            assert silent.dropped == 5
        there = Listener()
        await there.start(port)
        texts = [(await there.messages.get()).decode() for _ in range(4)]
        assert [re.search(r"\S+$", text)[0] for text in texts] == ["n0", "sent", "n1", "n2"]
        assert "events-dropped failed 5 events were not sent" in texts[1]
        await stopped(task)
        await there.stop()

    run(work())


def test_every_record_of_every_process_is_sent_also_after_a_restart(place):
    async def work():
        loop = asyncio.get_running_loop()
        async with new_store(place) as store, same_store(place) as command:
            with listener() as sock:
                port = sock.getsockname()[1]

                async def got(count):
                    texts = [(await loop.sock_recv(sock, 9999)).decode() for _ in range(count)]
                    return [int(re.search(r'number="(\d+)"', text)[1]) for text in texts]

                await store.audit.add(entry("before-anybody-wanted-them"))
                syslog = Syslog("gw")
                feed = AuditFeed(syslog, store)
                await feed.turn()
                syslog.configure([target(port)])
                task = await running(syslog)
                await feed.turn()
                await store.audit.add(entry("own"))
                await command.audit.add(entry("of a command"))
                await feed.turn()
                assert await got(2) == [2, 3]
                await syslog.drain(5)
                await feed.turn()
                await stopped(task)
                await command.audit.add(entry("while nobody ran"))

                again = Syslog("gw")
                again.configure([target(port)])
                feed = AuditFeed(again, store)
                await feed.turn()  # queued and not sent: the next process sends it
                third = Syslog("gw")
                third.configure([target(port)])
                feed = AuditFeed(third, store)
                task = await running(third)
                await feed.turn()
                await store.audit.add(entry("new"))
                await feed.turn()
                assert await got(2) == [4, 5]
                await stopped(task)

    run(work())
