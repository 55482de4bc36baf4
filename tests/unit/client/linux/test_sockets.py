"""Connecting over loopback: which address wins, what is said when none does, what is left open."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from lockgate.client.linux.sockets import UDP_BUFFER, connect_tcp, connect_udp, interleave
from lockgate.model.problem import ProblemError

V4, ANOTHER4, V6 = map(ip_address, ("127.0.0.1", "127.0.0.2", "::1"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind((str(V4), 0))
        sock.listen()
        yield sock


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address where a connection is neither taken nor refused: its queue is full."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind((str(ANOTHER4), 0))
        sock.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()


def connect(*addresses: object, port: int, timeout: float = 20.0) -> object:
    return asyncio.run(connect_tcp(addresses, port, 0, timeout=timeout))  # type: ignore[arg-type]


def test_the_versions_alternate_beginning_with_the_first() -> None:
    four, six = (
        [ip_address(f"192.0.2.{n}") for n in range(3)],
        [ip_address(f"2001:db8::{n}") for n in range(2)],
    )
    assert interleave([*six, *four, six[0]]) == [six[0], four[0], six[1], four[1], four[2]]
    assert interleave(four) == four


def test_a_refused_address_gives_way_to_the_next(listener: socket.socket) -> None:
    connected = connect(V6, ANOTHER4, V4, port=listener.getsockname()[1])
    with connected.sock as sock:  # type: ignore[attr-defined]
        assert connected.peer == (V4, listener.getsockname()[1])  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getblocking()


def test_a_silent_address_does_not_hold_up_the_next(silent: tuple[str, int]) -> None:
    with socket.socket() as other:
        other.bind((str(V4), silent[1]))
        other.listen()
        before = len(os.listdir("/proc/self/fd"))
        connected = connect(ANOTHER4, V4, port=silent[1])
        connected.sock.close()  # type: ignore[attr-defined]
        assert connected.peer[0] == V4  # type: ignore[attr-defined]
        assert len(os.listdir("/proc/self/fd")) == before


def test_nobody_answers(silent: tuple[str, int]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ProblemError) as refusal:
        connect(ANOTHER4, port=silent[1], timeout=0.05)
    assert refusal.value.problem.code == "connect-timeout"
    assert str(ANOTHER4) in refusal.value.problem.summary
    assert len(os.listdir("/proc/self/fd")) == before


def test_refused_outweighs_silent(silent: tuple[str, int]) -> None:
    with pytest.raises(ProblemError) as refusal:
        connect(V4, ANOTHER4, port=silent[1], timeout=1.0)
    assert refusal.value.problem.code == "connection-refused"
    assert len(refusal.value.problem.details) == 2


def test_no_way_there() -> None:
    with pytest.raises(ProblemError) as refusal:
        connect(ip_address("255.255.255.255"), port=1)
    assert refusal.value.problem.code == "no-network"


def test_cancelled_half_way_leaves_nothing_open(silent: tuple[str, int]) -> None:
    async def give_up() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(connect_tcp([ANOTHER4], silent[1], 0, timeout=30.0))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(give_up())


def test_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((str(V4), 0))
        with connect_udp((V4, peer.getsockname()[1]), 0, ANOTHER4) as sock:
            sock.send(b"x")
            assert peer.recvfrom(9)[1] == sock.getsockname()
            assert sock.getsockname()[0] == str(ANOTHER4)
            # The kernel counts twice what is asked for; without the right to more it gives what it allows.
            allowed = int(Path("/proc/sys/net/core/rmem_max").read_text())
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 * min(UDP_BUFFER, allowed)


def test_udp_from_an_address_that_is_not_ours() -> None:
    with pytest.raises(ProblemError) as refusal:
        connect_udp((V4, 9), 0, ip_address("192.0.2.9"))
    assert refusal.value.problem.code == "no-network"
