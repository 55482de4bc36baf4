"""Sockets that go around the tunnel: connected, marked, ready to be handed to the packet process.

The mark is what routing rules and the firewall know our own packets by.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from lockgate.client.network_plan import MARK as MARK
from lockgate.client.segments import Address
from lockgate.model.problem import Problem, ProblemError

HEAD_START = 0.25  # seconds before the next address is tried too; RFC 8305, section 5
MAX_ADDRESSES = 16
"""Tried for one name; a longer answer helps nobody."""
UDP_BUFFER = 4 << 20
"""Bytes. One fast flow fills the default buffers within a millisecond and collapses."""

SEGMENT = {4: 1280 - 40, 6: 1280 - 60}
"""Bytes of the largest TCP segment, ours and theirs, by IP version. Every path takes packets of 1280 bytes (RFC 8200,
section 5); where a larger one is lost without a word, TCP would wait for ever."""

_SO_MARK, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 36, 32, 33  # asm-generic/socket.h


@dataclass(frozen=True, slots=True)
class Connected:
    """A TCP connection. sock: non-blocking; whoever gets it closes it."""

    sock: socket.socket
    peer: tuple[Address, int]


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Each once, IP versions alternating, beginning with that of the first (RFC 8305, section 4)."""
    unique = list(dict.fromkeys(addresses))[:MAX_ADDRESSES]
    first = [address for address in unique if address.version == unique[0].version]
    other = [address for address in unique if address.version != unique[0].version]
    return [address for pair in zip_longest(first, other) for address in pair if address is not None]


async def connect_tcp(
    addresses: Sequence[Address],
    port: int,
    mark: int = MARK,
    *,
    timeout: float,  # noqa: ASYNC109  # a caller's timeout could not say what was tried
) -> Connected:
    """Connect to the first address that answers: RFC 8305, each next one HEAD_START seconds later.

    addresses: at least one.
    mark:      for SO_MARK; 0 sets none (then no right is needed).
    timeout:   seconds, for all of it.
    returns:   a connected socket with TCP_NODELAY and SEGMENT.
    raises:    ProblemError no-network (no way to any of them), connection-refused (one said no),
               connect-timeout (nothing heard), mark-refused; the details name each address.
    """
    waiting = interleave(addresses)
    # Here, where it stays a plain error: a task group wraps what is raised inside.
    with contextlib.suppress(OSError):
        _new_socket(waiting[0], socket.SOCK_STREAM, mark).close()
    failures: dict[Address, OSError | None] = dict.fromkeys(waiting)
    running: dict[asyncio.Task[socket.socket | OSError], Address] = {}
    winner: Connected | None = None
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    try:
        async with asyncio.TaskGroup() as group:
            while winner is None and (waiting or running) and loop.time() < end:
                if waiting:
                    address = waiting.pop(0)
                    task = group.create_task(_attempt(address, port, mark), name=f"connect {address}")
                    running[task] = address
                patience = min(HEAD_START, end - loop.time()) if waiting else end - loop.time()
                done, _ = await asyncio.wait(
                    running, timeout=max(patience, 0.0), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    address, outcome = running.pop(task), task.result()
                    if isinstance(outcome, OSError):
                        failures[address] = outcome
                    elif winner is None:
                        winner = Connected(outcome, (address, port))
                    else:
                        outcome.close()
            for task in running:
                task.cancel()
    except BaseException:
        if winner is not None:
            winner.sock.close()
        raise
    finally:
        # One may have connected at the very moment it was no longer wanted.
        for task in running:
            if task.done() and not task.cancelled() and task.exception() is None:
                late = task.result()
                if not isinstance(late, OSError):
                    late.close()
    if winner is None:
        raise ProblemError(_connect_problem(failures, port, timeout))
    return winner


def connect_udp(peer: tuple[Address, int], mark: int = MARK, local: Address | None = None) -> socket.socket:
    """A non-blocking UDP socket that talks to `peer` alone, with large buffers. Whoever gets it closes it.

    local:  source address; None lets the kernel choose by its routes. It stays the same for the socket's
            life: after roaming, make a new one.
    raises: ProblemError no-network (no way there, or `local` is not ours any more), mark-refused.
    """
    address, port = peer
    try:
        sock = _new_socket(address, socket.SOCK_DGRAM, mark)
    except OSError as error:
        raise ProblemError(_connect_problem({address: error}, port, 0)) from None
    try:
        for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, UDP_BUFFER)
            except PermissionError:  # then as much as net.core.rmem_max and wmem_max allow
                sock.setsockopt(socket.SOL_SOCKET, plain, UDP_BUFFER)
        if local is not None:
            sock.bind((str(local), 0))
        sock.connect((str(address), port))
    except OSError as error:
        sock.close()
        raise ProblemError(_connect_problem({address: error}, port, 0)) from None
    return sock


async def _attempt(address: Address, port: int, mark: int) -> socket.socket | OSError:
    try:
        sock = _new_socket(address, socket.SOCK_STREAM, mark)
    except OSError as error:
        return error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT[address.version])
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except OSError as error:
        sock.close()
        return error
    except BaseException:
        sock.close()
        raise
    return sock


def _new_socket(address: Address, kind: socket.SocketKind, mark: int) -> socket.socket:
    """raises: OSError without this IP version; ProblemError mark-refused."""
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, kind)
    sock.setblocking(False)
    if mark:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        except PermissionError:
            sock.close()
            raise ProblemError(
                Problem(
                    "mark-refused",
                    "The kernel does not let this program mark its packets, so they could not go around the tunnel.",
                    "Run the client service as root.",
                )
            ) from None
    return sock


def _connect_problem(failures: Mapping[Address, OSError | None], port: int, timeout: float) -> Problem:
    """failures: by address; None for one that has not answered, or was not tried any more."""
    details = tuple(
        f"{address} port {port}: {_reason(error, timeout)}" for address, error in failures.items()
    )
    where = f"{', '.join(map(str, failures))} port {port}"
    if any(isinstance(error, ConnectionRefusedError | ConnectionResetError) for error in failures.values()):
        return Problem(
            "connection-refused",
            f"The gateway's machine answers, but takes no connection at {where}.",
            "Check address and port; if they are right, the gateway is down: tell its administrator.",
            details,
        )
    if any(error is None or error.errno == errno.ETIMEDOUT for error in failures.values()):
        return Problem(
            "connect-timeout",
            f"Nothing answers at {where}.",
            "Check the address and this machine's network; a firewall on the way may drop the packets.",
            details,
        )
    return Problem(
        "no-network",
        f"There is no network that leads to {where}.",
        "Connect this machine to a network.",
        details,
    )


def _reason(error: OSError | None, timeout: float) -> str:
    if error is None:
        return f"no answer within {timeout:g} s"
    return error.strerror or str(error)
