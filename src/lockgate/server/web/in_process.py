"""A request to an application of this very process: REST for commands (`local`) and for the console's pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lockgate.model.problem import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from lockgate.server.web.peer import Peer
    from lockgate.server.web.principal import Principal

MAX_ANSWER = 512 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What the application said. headers: lower-case names."""

    status: int
    headers: Mapping[str, str]
    content: bytes


async def exchange(
    app: ASGIApp,
    method: str,
    path: str,
    query: str,
    *,
    headers: Mapping[str, str],
    content: bytes,
    peer: Peer,
    principal: Principal,
    request_id: str = "",
) -> Exchanged:
    """One request and all of its answer. path, query: percent-encoded. headers: lower-case names.

    peer, principal: as whom it is judged; no request from outside can name either. Raises ValueError for an
    answer of more than MAX_ANSWER.
    """
    headers = {**headers, "content-length": str(len(content))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": unquote(path, errors="replace"),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [
            (key.encode("latin-1"), value.encode("latin-1", "replace")) for key, value in headers.items()
        ],
        "client": None,
        "server": ("local", None),
        "lockgate.peer": peer,
        "lockgate.principal": principal,
        "lockgate.request": request_id,
    }
    status, told, received = 500, dict[str, str](), bytearray()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            # The caller waits for all of the answer; who listens for the end of it is cancelled by then.
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, told
        if message["type"] == "http.response.start":
            status = message["status"]
            told = {
                key.decode("latin-1").lower(): value.decode("latin-1")
                for key, value in message.get("headers", ())
            }
        elif message["type"] == "http.response.body":
            received.extend(message.get("body", b""))
            if len(received) > MAX_ANSWER:
                raise ValueError("the answer is too large")

    await app(scope, receive, send)
    return Exchanged(status, told, bytes(received))


def problem_told(body: Any) -> Problem:
    """The problem that an answer above 399 tells. body: its JSON value; what is none is a mistake of ours."""
    told = body if isinstance(body, dict) else {}
    return Problem(
        code=str(told.get("code", "internal-error")),
        summary=str(told.get("summary", "The server made a mistake.")),
        fix=str(told.get("fix", "See its log.")),
        details=tuple(str(each) for each in told.get("details", ())),
    )
