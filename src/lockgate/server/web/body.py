"""Bodies of requests: how large. How deep a JSON document may be is `config.bounds`.

The listener counts what arrives and stops at the limit that the route has set; until a route has
judged who asks, nothing of a body is read.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

JSON_LIMIT = 1 << 20  # bytes; a role with everything in it is 20 KB
SMALL_FORM = 64 << 10  # what somebody types
FORM_LIMIT = 48 << 20  # a form with the archive of a sign-in page (20 MiB) or an exported configuration
DOCUMENT_LIMIT = 48 << 20  # an exported configuration with the pages it needs

_KEY = "lockgate.body"


class TooLarge(HTTPException):
    """The body is larger than the route allows."""

    def __init__(self) -> None:
        super().__init__(413)


def counted(scope: Scope, receive: Receive) -> Receive:
    """`receive` that raises TooLarge behind the limit, which is 0 until a route allows more."""
    state = scope[_KEY] = {"limit": 0, "read": 0}

    async def receive_counted() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            state["read"] += len(message.get("body", b""))
            if state["read"] > state["limit"]:
                raise TooLarge
        return message

    return receive_counted


def allow_body(request: Request, limit: int) -> None:
    """Lets a body of at most `limit` bytes in. Raises TooLarge for one that declares more."""
    state = request.scope.get(_KEY)
    if state is not None:
        state["limit"] = limit
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge
