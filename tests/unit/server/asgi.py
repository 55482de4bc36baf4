"""One request to an ASGI application, as the control plane's HTTP server would hand it over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from lockgate.server.web import local

PIECE = 65536  # bytes of a body at a time


async def exchange(
    app: Any,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    content: bytes = b"",
    *,
    raw_path: bytes | None = None,
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers with lower-case names, and content of the answer.

    target: path and query. raw_path: the path as it came, where that is not the path's own.
    """
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode() if raw_path is None else raw_path,
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("", 0),
        "server": ("", 0),
    }
    pieces = [content[at : at + PIECE] for at in range(0, len(content), PIECE)] or [b""]
    answered: dict[str, Any] = {}
    received = bytearray()

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()  # the client stays until it has the answer
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.update(message)
        else:
            received.extend(message.get("body", b""))

    await app(scope, receive, send)
    pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in answered["headers"]]
    return answered["status"], pairs, bytes(received)


async def call_app(
    app: Any,
    method: str,
    path: str,
    *,
    query: local.Query | None = None,
    body: Any = None,
    actor: str = "local",
    headers: dict[str, str] | None = None,
) -> local.Answer:
    """As a command on the gateway's machine calls a running server, without the socket between them."""
    request = local.request_of(method, path, query, body, actor, headers)
    return local.answer_of(await local.api_operation(app)(request))
