"""REST, called by a page with the rights of whoever looks at it.

A page that shows or does something beyond settings asks the same routes as any program: what one may, the other
may, and nothing is written twice. No byte leaves the process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.types import Message

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.peer import Peer
from lockgate.server.web.principal import NotAllowedError

PREFIX = "/api/v1/"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route said."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content) if self.content else None


async def rest(
    ask: Ask, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
) -> Any:
    """The JSON value of an answer. path: below /api/v1/, see `segment`. Raises ProblemError for a no."""
    return (await call(ask, method, path, query=query, body=body)).json


async def call(
    ask: Ask, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
) -> Answer:
    """The answer as it is. query: None values are left out."""
    content = b"" if body is None else json.dumps(body).encode()
    asked = {key: value for key, value in (query or {}).items() if value is not None and value != ""}
    full = PREFIX + path
    scope = {
        **{key: ask.request.scope[key] for key in ("asgi", "http_version", "scheme", "server", "client")},
        "type": "http",
        "method": method,
        "path": unquote(full),
        "raw_path": full.encode(),
        "query_string": urlencode(asked).encode(),
        "root_path": "",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"user-agent", ask.request.headers.get("user-agent", "").encode("latin-1")),
        ],
        "lockgate.peer": Peer.of(ask.request),
        "lockgate.principal": ask.principal,
        "lockgate.request": ask.request.scope.get("lockgate.request", ""),
    }
    status, headers, received = 500, {}, bytearray()
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            # The page waits for all of the answer; who listens for the end of it is cancelled by then.
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {
                key.decode("latin-1").lower(): value.decode("latin-1") for key, value in message["headers"]
            }
        elif message["type"] == "http.response.body":
            received.extend(message.get("body", b""))

    await ask.request.app(scope, receive, send)
    answer = Answer(status, headers, bytes(received))
    if status >= 400:
        raise _problem(answer)
    return answer


def segment(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="~")


def _problem(answer: Answer) -> ProblemError:
    told = answer.json if "json" in answer.headers.get("content-type", "") else {}
    problem = Problem(
        code=str(told.get("code", "internal-error")),
        summary=str(told.get("summary", "The server made a mistake.")),
        fix=str(told.get("fix", "See its log.")),
        details=tuple(str(each) for each in told.get("details", ())),
    )
    if answer.status in (401, 403):
        return NotAllowedError(answer.status, problem)
    return ProblemError(problem)
