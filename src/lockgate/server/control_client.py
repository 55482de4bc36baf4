"""Asks a running server something: one JSON line each way over D/run/control.sock."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.datadir import DataDirectory

TIMEOUT = 10.0  # seconds for the whole exchange
# A list of ten thousand sessions is 4 MiB.
MAX_ANSWER = 64 << 20


def call(directory: DataDirectory, request: dict[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
    """The server's answer to `request`. Raises ProblemError: code "server-not-running", "server-silent",
    or what the server itself reports as {"error": Problem.as_dict()}.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            _connect(connection, directory)
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = _read_line(connection)
            answer = json.loads(line)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise ProblemError(
            Problem(
                code="server-not-running",
                summary=f"No server is running with {directory.path}.",
                fix=f"Start it with `lockgate server run --dir {directory.path}`.",
            )
        ) from None
    except PermissionError:
        raise ProblemError(
            Problem(
                code="data-directory-closed",
                summary=f"The server's socket in {directory.run} is closed to this user.",
                fix="Run the command as the owner of the directory or as root.",
            )
        ) from None
    except (OSError, ValueError):
        raise ProblemError(
            Problem(
                code="server-silent",
                summary=f"The server with {directory.path} does not answer.",
                fix="Try again in a few seconds; its log says what it is doing.",
            )
        ) from None
    if not isinstance(answer, dict):
        raise ProblemError(
            Problem("server-silent", "The server gave an unknown answer.", "Use one release for both sides.")
        )
    if isinstance(error := answer.get("error"), dict):
        raise ProblemError(Problem.from_dict(error))
    return answer


def _connect(connection: socket.socket, directory: DataDirectory) -> None:
    # A socket's path has 108 bytes at most (unix(7)); through the folder's descriptor any D will do.
    folder = os.open(directory.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{directory.control_socket.name}")
    finally:
        os.close(folder)


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        chunk = connection.recv(1 << 16)
        if not chunk or len(received) > MAX_ANSWER:
            raise ValueError("no whole line")
        received += chunk
    return bytes(received)
