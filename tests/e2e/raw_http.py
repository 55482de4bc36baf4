"""Sends requests over TLS exactly as they are given, and prints what came back: JSON in, JSON out.

    python -m tests.e2e.raw_http HOST PORT < requests.json > answers.json

Requests are texts whose characters are the bytes; each has a connection of its own. An answer is the text up
to the end of the connection, or to some silence.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys

SILENCE = 2.0  # seconds; the requests ask for the connection to be closed, and few are refused without that


def ask(host: str, port: int, request: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    received = b""
    try:
        with (
            socket.create_connection((host, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="gw.lab.test") as connection,
        ):
            connection.sendall(request.encode("latin-1"))
            connection.settimeout(SILENCE)
            while chunk := connection.recv(65536):
                received += chunk
    except OSError:
        pass  # refused before or after an answer; what there is counts
    return received.decode("latin-1")


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    json.dump([ask(host, port, each) for each in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
