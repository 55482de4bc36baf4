"""`python -m tests.lab.bad_proxy ADDRESS PORT WHAT`: a web proxy that is none.

    garbage   answers CONNECT with noise
    close     closes without an answer
    hollow    says yes and closes
    noisy     says yes, waits for the client's hello and answers that with noise
    endless   sends headers without end
    silent    says nothing

Prints `ready`, then `asked` for every CONNECT.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys

_YES = b"HTTP/1.1 200 Connection established\r\n\r\n"


def _serve(caller: socket.socket, what: str) -> None:
    while not caller.recv(4096).endswith(b"\r\n\r\n"):
        pass
    print("asked", flush=True)
    match what:
        case "garbage":
            caller.sendall(random.Random(1).randbytes(512))
        case "hollow":
            caller.sendall(_YES)
        case "noisy":
            caller.sendall(_YES)
            caller.recv(4096)
            caller.sendall(random.Random(2).randbytes(512))
        case "endless":
            caller.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000)
        case "silent":
            caller.recv(4096)


def main(address: str, port: str, what: str) -> None:
    with socket.create_server((address, int(port))) as listener:
        print("ready", flush=True)
        while True:
            caller, _ = listener.accept()
            with caller, contextlib.suppress(OSError):
                _serve(caller, what)


if __name__ == "__main__":
    main(*sys.argv[1:])
