"""`python -m tests.lab.nuisance WHAT ADDRESS PORT COUNT`: strangers that make trouble at a TLS port.

    silent    open COUNT connections and say nothing; keeps them until standard input ends
    slow      the same, with a TLS record that never ends, one byte at a time
    garbage   COUNT connections that send random bytes and leave
    http      COUNT TLS connections with wrong or giant requests inside

Prints `done` with what became of the connections when all are under way or over.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import selectors
import socket
import ssl
import sys


def _hold(address: str, port: int, count: int, *, first: bytes) -> list[socket.socket]:
    """As many connections as the server takes; refused ones are left out."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held, waiting = [], selectors.DefaultSelector()
    for _ in range(count):
        stranger = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        stranger.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            stranger.connect((address, port))
        waiting.register(stranger, selectors.EVENT_WRITE)
        # Not more at once than a listen queue takes.
        if len(waiting.get_map()) >= 256:
            _settle(waiting, held, first)
    while waiting.get_map():
        _settle(waiting, held, first)
    return held


def _settle(waiting: selectors.BaseSelector, held: list[socket.socket], first: bytes) -> None:
    for key, _ in waiting.select(timeout=5) or [(key, 0) for key in list(waiting.get_map().values())]:
        stranger = key.fileobj
        assert isinstance(stranger, socket.socket)
        waiting.unregister(stranger)
        try:
            stranger.send(first)
            held.append(stranger)
        except OSError:
            stranger.close()


def _garbage(address: str, port: int, count: int) -> None:
    for number in range(count):
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5) as stranger:
            # Some look like TLS at first.
            head = [b"", b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"][number % 3]
            stranger.sendall(head + os.urandom(random.randrange(1, 20_000)))


_REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: v\r\n" % n for n in range(5000)) + b"\r\n",
    b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: IF-T/TLS 1.0\r\nConnection: Upgrade\r\n\r\n" + b"\xff" * 64,
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: IF-T/TLS 1.0\r\nConnection: Upgrade\r\n\r\n"
    b"\x00\x00\x55\x97\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00\x00\x00",
    b"\x00" * 4096,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def _http(address: str, port: int, count: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for number in range(count):
        with (
            contextlib.suppress(OSError),
            socket.create_connection((address, port), timeout=5) as stranger,
            context.wrap_socket(stranger) as inside,
        ):
            inside.sendall(_REQUESTS[number % len(_REQUESTS)])
            inside.recv(4096)


def main(what: str, address: str, port: int, count: int) -> None:
    match what:
        case "silent" | "slow":
            held = _hold(address, port, count, first=b"" if what == "silent" else b"\x16")
            print(f"done: {len(held)} of {count} held", flush=True)
            sys.stdin.read()
        case "garbage":
            _garbage(address, port, count)
            print("done", flush=True)
        case "http":
            _http(address, port, count)
            print("done", flush=True)
        case _:
            sys.exit(f"unknown: {what}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
