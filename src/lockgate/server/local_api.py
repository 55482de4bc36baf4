"""The local API: what `lockgate server …` asks a running server over a Unix socket.

One JSON object a line in, one out: `{"op": …}`, and the answer or `{"error": Problem}`. The operation "api" is
REST itself (`web.local`), with all rights.
Only the account that owns the data directory, and root, may speak.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from lockgate.model.problem import Problem, ProblemError

log = structlog.get_logger("local-api")

# Bytes of a request: an upload of 256 MiB as JSON text. Who may speak here owns the data directory anyway.
LINE_LIMIT = 512 << 20
IDLE_LIMIT = 30.0  # seconds a caller may take for its line

Operation = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class LocalApi:
    """Serves `operations` by name on an inherited listening socket."""

    def __init__(self, listener: socket.socket, operations: Mapping[str, Operation]) -> None:
        self._listener, self._operations = listener, operations

    async def run(self) -> None:
        server = await asyncio.start_unix_server(self._serve, sock=self._listener, limit=LINE_LIMIT)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            uid = _peer_uid(writer.get_extra_info("socket"))
            if uid not in (0, os.getuid()):
                log.warning("caller-refused", uid=uid)
                return
            while True:
                async with asyncio.timeout(IDLE_LIMIT):
                    line = await reader.readline()
                if not line:
                    return
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, TimeoutError, OSError):
            pass  # a line too long, silence, or a caller that left: nobody is there to tell
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = self._operations[request["op"]]
        except (ValueError, KeyError, TypeError):
            return _refusal(
                Problem("bad-request", "The server does not know this request.", "Update `lockgate`.")
            )
        try:
            return await operation(request)
        except ProblemError as error:
            return _refusal(error.problem)
        except Exception:
            log.exception("internal-error", operation=request["op"])
            return _refusal(Problem("internal-error", "The server made a mistake.", "See its log."))


def _refusal(problem: Problem) -> dict[str, Any]:
    return {"error": problem.as_dict()}
