"""The local API: JSON lines over a Unix socket between the service and whoever steers it.

A request is `{"id": N, "op": …}`, its answer `{"id": N, "result": …}` or `{"id": N, "error": Problem}`;
lines with `"event"` come unasked. The kernel says who calls; what callers say about themselves counts for
nothing. A caller that asked for a connection is its front (`front.py`) until its socket closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import itertools
import json
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from lockgate.client.service.front import Cancelled, FrontGone
from lockgate.model.problem import Problem, ProblemError

log = structlog.get_logger("local-api")

SOCKET_NAME = "client.sock"
GROUP = "lockgate"
"""Members may connect; without the group only root may. A connection steers the whole machine's traffic, so
that any user with a shell is too many."""

LINE_LIMIT = 256 << 10  # bytes of a request; the longest carries a CA file
MAX_CALLERS = 64  # beside root's
MAX_CALLERS_OF_ONE = 32  # of one account
MAX_REQUESTS = 32  # of one caller, waiting for their answers
WRITE_LIMIT = 1 << 20  # bytes that may wait for a caller that does not read

_BAD = Problem("bad-request", "The service does not know this request.", "Update `lockgate`.")
_NOT_ALLOWED = Problem(
    "not-allowed",
    "This account may not steer the client.",
    f"Ask the administrator to add it to the group {GROUP}, or run the command as root.",
)
_BUSY = Problem("too-many-callers", "Too many programs talk to the client already.", "Close some of them.")

Operation = Callable[["Caller", Mapping[str, Any]], Awaitable[dict[str, Any]]]


class Caller:
    """One program at the socket."""

    def __init__(self, uid: int, writer: asyncio.StreamWriter) -> None:
        self.uid = uid
        self._writer = writer
        self._prompts: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self.gone = asyncio.Event()
        self.watches = False

    def may_see(self, uid: int) -> bool:
        return self.uid in (0, uid)

    def say(self, line: Mapping[str, Any]) -> None:
        """Sends one line. A caller that does not read is cut off rather than waited for."""
        if self.gone.is_set():
            return
        self._writer.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        if self._writer.transport.get_write_buffer_size() > WRITE_LIMIT:
            self._writer.transport.abort()

    async def prompt(self, connection: str, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Shows a prompt and waits for its answer. Raises FrontGone, Cancelled."""
        if self.gone.is_set():
            raise FrontGone
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._prompts[number] = answer
        self.say({"event": "prompt", "connection": connection, "prompt": number, "kind": kind, **fields})
        try:
            return await answer
        finally:
            self._prompts.pop(number, None)

    def answer(self, request: Mapping[str, Any]) -> None:
        """Takes an answer; ProblemError when nobody waits for it."""
        number, fields = request.get("prompt"), request.get("fields")
        waiting = self._prompts.get(number) if isinstance(number, int) else None
        if waiting is None or waiting.done():
            raise ProblemError(
                Problem("no-such-prompt", "Nothing waits for this answer.", "Ask for the status.")
            )
        if request.get("cancel") is True or not isinstance(fields, dict):
            waiting.set_exception(Cancelled())
        else:
            waiting.set_result(fields)

    def leave(self) -> None:
        self.gone.set()
        for waiting in self._prompts.values():
            if not waiting.done():
                waiting.set_exception(FrontGone())


class CallerFront:
    """A caller as the front of one connection."""

    def __init__(self, caller: Caller, connection: str) -> None:
        self._caller, self._connection = caller, connection

    async def ask(self, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        return await self._caller.prompt(self._connection, kind, fields)


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    """Empty at the end, which a line that is too long, or a socket that is reset, is too."""
    try:
        return await reader.readline()
    except (ValueError, OSError):
        return b""


def is_allowed(uid: int) -> bool:
    """Whether an account may steer the client: root, ourselves, members of the group."""
    if uid in (0, os.getuid()):
        return True
    try:
        group, user = grp.getgrnam(GROUP), pwd.getpwuid(uid)
    except KeyError:
        return False
    return user.pw_gid == group.gr_gid or user.pw_name in group.gr_mem


class LocalApi:
    """Serves `operations` by name; `callers` are those at the socket now."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self._path, self._operations = path, operations
        self.callers: set[Caller] = set()
        self._refused: set[int] = set()
        self._left: Callable[[Caller], None] = lambda caller: None

    def on_leave(self, call: Callable[[Caller], None]) -> None:
        """Calls `call` whenever a caller's socket has closed."""
        self._left = call

    async def run(self) -> None:
        """Serves until cancelled."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o666)  # who may do what is decided by the kernel's word about the caller
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE_LIMIT)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        credentials = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        caller = Caller(struct.unpack("3i", credentials)[1], writer)
        refusal = None
        if not is_allowed(caller.uid):
            if caller.uid not in self._refused:  # once: who may not do anything may not fill the log either
                log.warning("caller-refused", uid=caller.uid)
                self._refused.add(caller.uid)
            refusal = _NOT_ALLOWED
        elif not self._has_room(caller.uid):
            refusal = _BUSY
        if refusal is not None:
            caller.say({"id": None, "error": refusal.as_dict()})
            writer.close()
            return
        self.callers.add(caller)
        try:
            async with asyncio.TaskGroup() as requests:
                room = asyncio.Semaphore(MAX_REQUESTS)
                while line := await _next_line(reader):
                    await room.acquire()
                    requests.create_task(self._answer(caller, line, room), name="request")
                # Nobody is there to hear the answers.
                caller.leave()
                raise asyncio.CancelledError
        except asyncio.CancelledError:
            pass  # the end
        except BaseExceptionGroup:
            log.exception("internal-error")
        finally:
            self.callers.discard(caller)
            caller.leave()
            self._left(caller)
            writer.close()

    def _has_room(self, uid: int) -> bool:
        """Nobody can keep the others out, and nobody keeps root out."""
        if sum(caller.uid == uid for caller in self.callers) >= MAX_CALLERS_OF_ONE:
            return False
        return uid == 0 or len(self.callers) < MAX_CALLERS

    async def _answer(self, caller: Caller, line: bytes, room: asyncio.Semaphore) -> None:
        number: object = None
        try:
            try:
                request = json.loads(line)
                number = request.get("id")
                operation = self._operations[request["op"]]
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise ProblemError(_BAD) from None
            caller.say({"id": number, "result": await operation(caller, request)})
        except ProblemError as error:
            caller.say({"id": number, "error": error.problem.as_dict()})
        except Exception:
            log.exception("internal-error")
            problem = Problem("internal-error", "The client service made a mistake.", "See its log.")
            caller.say({"id": number, "error": problem.as_dict()})
        finally:
            room.release()
