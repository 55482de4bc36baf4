"""REST, called by a page with the rights of whoever looks at it.

A page that shows or does something beyond settings asks the same routes as any program: what one may, the other
may, and nothing is written twice. No byte leaves the process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from lockgate.model.problem import ProblemError
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.in_process import Exchanged, exchange, problem_told
from lockgate.server.web.peer import Peer
from lockgate.server.web.principal import NotAllowedError
from lockgate.server.web.problems import request_id

PREFIX = "/api/v1/"


async def rest(
    ask: Ask, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
) -> Any:
    """The JSON value of an answer. path: below /api/v1/, see `segment`. Raises ProblemError for a no."""
    content = (await call(ask, method, path, query=query, body=body)).content
    return json.loads(content) if content else None


async def call(
    ask: Ask, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
) -> Exchanged:
    """The answer as it is. query: None values are left out."""
    content = b"" if body is None else json.dumps(body).encode()
    asked = {key: value for key, value in (query or {}).items() if value is not None and value != ""}
    answer = await exchange(
        ask.request.app,
        method,
        PREFIX + path,
        urlencode(asked),
        headers={
            "content-type": "application/json",
            "user-agent": ask.request.headers.get("user-agent", ""),
        },
        content=content,
        peer=Peer.of(ask.request),
        principal=ask.principal,
        request_id=request_id(ask.request),
    )
    if answer.status >= 400:
        raise _problem(answer)
    return answer


def segment(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="~")


def _problem(answer: Exchanged) -> ProblemError:
    is_json = "json" in answer.headers.get("content-type", "")
    problem = problem_told(json.loads(answer.content) if is_json else None)
    if answer.status in (401, 403):
        return NotAllowedError(answer.status, problem)
    return ProblemError(problem)
