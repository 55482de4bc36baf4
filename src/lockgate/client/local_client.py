"""Speaks to the client service: one JSON object a line each way over R/client.sock.

Blocking, and without asyncio: the command line imports this, and is to be quick. What a person waits for
at the same time (keys, signals) goes into one `select` with `fileno()`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from collections import deque
from typing import Any

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.support_code import parse_support_code

SOCKET = "client.sock"
TIMEOUT = 15.0  # seconds for an answer that needs no work on the network
# The longest lines are details with some hundred networks; the service keeps to 256 KiB as well.
MAX_LINE = 256 << 10
MAX_DETAILS = 50  # single findings shown of a problem
MAX_WAITING = 1024
"""Events kept while an answer is awaited. A connection makes a few dozen in its life; who sends more is
not our service."""

Message = dict[str, Any]


class LocalClient:
    """One connection to the service. Answers are matched by number; the rest are events."""

    def __init__(self, run_dir: str) -> None:
        """Connects. ProblemError: "client-not-running", "client-closed", "client-stranger" or
        "client-silent"."""
        self._run_dir = run_dir
        self._number = 0
        self._events: deque[Message] = deque()
        self._open()

    def _open(self) -> None:
        self._received = bytearray()
        self._searched = 0  # bytes at the start of `_received` without a line end
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _connect(self._socket, self._run_dir)
        except BaseException:
            self._socket.close()
            raise

    def reopen(self) -> None:
        """Connects once more, to the same service or the next; raises as the constructor does."""
        self._socket.close()
        self._open()

    def __enter__(self) -> LocalClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Readable when `take` may have something."""
        return self._socket.fileno()

    def send(self, op: str, **fields: object) -> int:
        """Sends a request; the number that its answer has. A Secret among the fields is sent as text."""
        self._number += 1
        request = {"id": self._number, "op": op, **fields}
        self._socket.settimeout(TIMEOUT)
        try:
            self._socket.sendall(json.dumps(request, default=_reveal).encode() + b"\n")
        except OSError:
            # What the service said before it closed is worth more than this: `take` finds it.
            if not self._readable(0):
                raise _gone() from None
        return self._number

    def call(self, op: str, *, timeout: float = TIMEOUT, **fields: object) -> Message:
        """The result of a request. Raises ProblemError: what the service reports, "client-gone" or
        "client-silent". Events that come meanwhile are kept for `take`.
        """
        number = self.send(op, **fields)
        deadline = time.monotonic() + timeout
        while True:
            for message in self._read(max(0.0, deadline - time.monotonic())):
                # Without a number: the service refuses the caller, whatever was asked.
                if message.get("id") == number or is_refusal(message):
                    return result(message)
                self._keep(message)
            if time.monotonic() >= deadline:
                raise _silent()

    def take(self, timeout: float) -> list[Message]:
        """Answers and events that are here, or come first within `timeout` seconds; empty if none does.

        Raises ProblemError "client-gone" when the service has closed the connection.
        """
        if not self._events:
            for message in self._read(timeout):
                self._keep(message)
        messages = list(self._events)
        self._events.clear()
        return messages

    def _keep(self, message: Message) -> None:
        if len(self._events) >= MAX_WAITING:
            raise _not_ours()
        self._events.append(message)

    def _read(self, timeout: float) -> list[Message]:
        """Whole lines, after waiting for bytes at most once."""
        if not self._readable(timeout):
            return []
        self._socket.settimeout(TIMEOUT)
        try:
            chunk = self._socket.recv(1 << 16)
        except OSError:
            chunk = b""
        if not chunk:
            raise _gone()
        self._received += chunk
        messages = []
        while (end := self._received.find(b"\n", self._searched)) >= 0:
            messages.append(_message(bytes(self._received[:end])))
            del self._received[: end + 1]
            self._searched = 0
        self._searched = len(self._received)
        if self._searched > MAX_LINE:
            raise _not_ours()
        return messages

    def _readable(self, timeout: float) -> bool:
        return bool(select.select([self._socket], [], [], timeout)[0])


def call(run_dir: str, op: str, *, timeout: float = TIMEOUT, **fields: object) -> Message:
    """One request over a connection of its own."""
    with LocalClient(run_dir) as client:
        return client.call(op, timeout=timeout, **fields)


def is_refusal(message: Message) -> bool:
    """Whether the service does not want to speak to this caller at all."""
    return "error" in message and message.get("id") is None


def result(answer: Message) -> Message:
    """The result in an answer; ProblemError when it is a refusal."""
    if "error" in answer:
        raise ProblemError(read_problem(answer["error"]))
    found = answer.get("result")
    if not isinstance(found, dict):
        raise _not_ours()
    return found


def read_problem(document: object) -> Problem:
    """The Problem that the service reports as a JSON object. Its texts are not made safe to print."""
    if isinstance(document, dict):
        code, summary, fix = (document.get(key) for key in ("code", "summary", "fix"))
        if isinstance(code, str) and isinstance(summary, str) and isinstance(fix, str):
            details = document.get("details")
            listed = details[:MAX_DETAILS] if isinstance(details, list) else []
            support = parse_support_code(str(document.get("support_code") or "")) or ""
            return Problem(code, summary, fix, tuple(map(str, listed)), support)
    raise _not_ours()


def _connect(connection: socket.socket, run_dir: str) -> None:
    connection.settimeout(TIMEOUT)
    try:
        # A socket's path has 108 bytes at most (unix(7)); through the folder's descriptor any will do.
        folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise ProblemError(
            Problem(
                code="client-not-running",
                summary=f"The client service does not run (there is no {SOCKET} in {run_dir} to speak to).",
                fix="Start it as root: `systemctl start lockgate-client`, or `lockgate client run`.",
            )
        ) from None
    except PermissionError:
        raise ProblemError(
            Problem(
                code="client-closed",
                summary=f"The client service's socket in {run_dir} is closed to this user.",
                fix="Run the command as root, or ask the administrator for access.",
            )
        ) from None
    except OSError:
        raise _silent() from None
    peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    # Passwords go over this socket: not to whoever had the idea of listening in this folder.
    if peer not in (0, os.geteuid()):
        raise ProblemError(
            Problem(
                code="client-stranger",
                summary=f"The socket in {run_dir} belongs to the user with number {peer}, not to root.",
                fix="Name the folder of your own client service with --run-dir.",
            )
        )


def _message(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise _not_ours()
    return message


def _reveal(value: object) -> str:
    # Imported here: only requests that hold a Secret come here, and they have imported it.
    from lockgate.protocol.secret import Secret

    if isinstance(value, Secret):
        return value.reveal_text()
    raise TypeError(f"a {type(value).__name__} does not go into a request")


def _gone() -> ProblemError:
    return ProblemError(
        Problem(
            code="client-gone",
            summary="The client service has closed the connection: it was stopped, or does not allow this user.",
            fix="`lockgate status` tells whether it runs; its log says why.",
        )
    )


def _silent() -> ProblemError:
    return ProblemError(
        Problem(
            code="client-silent",
            summary="The client service does not answer.",
            fix="Try again in a few seconds; its log says what it is doing.",
        )
    )


def _not_ours() -> ProblemError:
    return ProblemError(
        Problem(
            code="client-garbled",
            summary="The client service does not speak as this command expects.",
            fix="Use the command and the service of the same version; restart the service after an update.",
        )
    )
