"""`python -m tests.lab.intranet DIRECTORY`: what there is to reach behind the gateway, IPv4 and IPv6.

HTTP on port 80: `GET /` a page, `GET /bytes/N` the first N bytes of the file DIRECTORY/large (sent by the kernel),
`POST /sink` answers with number and SHA-256 of the bytes received, `GET /whoami` the caller's address.
Echo on port 7, TCP and UDP. `serve` starts it on a host and waits until it listens.
"""

from __future__ import annotations

import hashlib
import os
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.lab.host import Host
from tests.lab.program import Program

PAGE = "<!doctype html><title>Intranet</title><h1>You are inside</h1>\n"
LARGE = 200_000_000
"""Bytes of the large file, unless the caller wants another size."""


def serve(host: Host, size: int = LARGE) -> Program:
    program = host.start(host.python("tests.lab.intranet", str(host.directory), str(size)), "intranet")
    program.wait_log("^serving", deadline=30)
    return program


def expected_digest(host: Host, size: int) -> str:
    """SHA-256 of the first `size` bytes of the large file, in hex."""
    digest = hashlib.sha256()
    with (host.directory / "large").open("rb") as file:
        left = size
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128
    directory: Path

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(PAGE.encode(), "text/html; charset=utf-8")
        elif self.path == "/whoami":
            self._answer(self.client_address[0].removeprefix("::ffff:").encode() + b"\n")
        elif self.path.startswith("/bytes/") and self.path[7:].isdecimal():
            self._send_file(int(self.path[7:]))
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        digest, left = hashlib.sha256(), int(self.headers.get("Content-Length", 0))
        total = left
        while left and (block := self.rfile.read(min(left, 1 << 18))):
            digest.update(block)
            left -= len(block)
        self._answer(f"{total - left} {digest.hexdigest()}\n".encode())

    def _answer(self, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, size: int) -> None:
        with (self.server.directory / "large").open("rb") as file:
            size = min(size, os.fstat(file.fileno()).st_size)
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            sent = 0
            while sent < size:
                sent += os.sendfile(self.connection.fileno(), file.fileno(), sent, size - sent)

    def log_message(self, format: str, *arguments: object) -> None:
        print(self.client_address[0], format % arguments, flush=True)


class _Echo(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    allow_reuse_address = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _EchoHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


def _echo_udp() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        server.bind(("::", 7))
        while True:
            # The answer leaves from the address that was asked, whichever the host would choose.
            data, asked, _, peer = server.recvmsg(65536, 128)
            server.sendmsg([data], asked, 0, peer)


def main(directory: Path, size: int) -> None:
    # Random content: a piece out of order, doubled or lost changes the digest.
    with (directory / "large").open("wb") as file:
        for start in range(0, size, 1 << 20):
            file.write(os.urandom(min(1 << 20, size - start)))
    web = _Server(("::", 80), _Handler)
    web.directory = directory
    echo = _Echo(("::", 7), _EchoHandler)
    for target in (web.serve_forever, echo.serve_forever, _echo_udp):
        threading.Thread(target=target, daemon=True).start()
    print("serving", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
