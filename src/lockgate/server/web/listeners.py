"""The door: every request comes through here before any route is looked for.

It gives the request an id, finds out which listener it came to, refuses addresses that two readers could
read differently, counts the body, adds the headers that every answer has, and turns what nobody caught into
an answer without details. The two listeners are two applications that share no route; what did not come
from the edge gets neither.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from urllib.parse import unquote_to_bytes

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lockgate.model.problem import Problem
from lockgate.server.web.body import counted
from lockgate.server.web.peer import Peer
from lockgate.server.web.problems import INTERNAL, NOT_FOUND, problem_response
from lockgate.server.web.traced import finish, traced

log = structlog.get_logger("http")

MAX_PATH = 2048  # bytes
MAX_QUERY = 8192

HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "strict-transport-security": "max-age=31536000",
}
"""Of every answer that does not say otherwise itself."""

_ODD = Problem("bad-address", "The address is not in its plain form.", "Write it without detours.")
# RFC 3986, section 2.3: what never needs to be encoded.
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HEX = frozenset(b"0123456789ABCDEFabcdef")


class Door:
    """The application that the server runs."""

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        """apps: by listener."""
        self.apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        name = scope["lockgate.request"] = secrets.token_hex(8)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for key, value in HEADERS.items():
                    headers.setdefault(key, value)
                headers["x-request-id"] = name
                finish(trace, scope, message["status"])
            await send(message)

        receive = counted(scope, receive)
        request = Request(scope, receive)
        listener = Peer.of(request).listener
        with traced(request, listener) as trace:
            await self._answer(request, self.apps.get(listener), receive, answer, lambda: started)

    async def _answer(
        self,
        request: Request,
        app: ASGIApp | None,
        receive: Receive,
        answer: Send,
        started: Callable[[], bool],
    ) -> None:
        """started: whether the answer has begun."""
        scope, name = request.scope, request.scope["lockgate.request"]
        try:
            if app is None:
                await problem_response(request, NOT_FOUND)(scope, receive, answer)
            elif not is_plain(scope.get("raw_path") or b"", scope.get("query_string", b"")):
                await problem_response(request, _ODD, 400)(scope, receive, answer)
            else:
                await app(scope, receive, answer)
        except Exception:
            # Neither query nor headers: they may hold secrets.
            log.exception("internal-error", request=name, method=scope["method"], path=scope["path"])
            if not started():
                await problem_response(request, INTERNAL)(scope, receive, answer)


def is_plain(path: bytes, query: bytes) -> bool:
    """Whether an address has one reading only.

    path: as it came, without the query. Refused are empty and dot segments, separators and control characters
    however they are written, letters that need no encoding and have one, and what is no UTF-8.
    """
    if not path.startswith(b"/") or len(path) > MAX_PATH or len(query) > MAX_QUERY:
        return False
    return _readable(query) and all(_plain_segment(each) for each in _segments(path))


def _segments(path: bytes) -> list[bytes]:
    _, *segments = path.split(b"/")
    # One slash at the end is a folder's address.
    return segments[:-1] if segments[-1] == b"" else segments


def _plain_segment(segment: bytes) -> bool:
    if segment in (b"", b".", b"..") or not _well_encoded(segment):
        return False
    decoded = unquote_to_bytes(segment)
    return not any(each in decoded for each in (b"/", b"\\", b";")) and _is_text(decoded)


def _well_encoded(segment: bytes) -> bool:
    """Printable ASCII, in which every % begins two digits that stand for something that needs it."""
    if not all(0x21 <= byte <= 0x7E and byte not in b"?#" for byte in segment):
        return False
    at = segment.find(b"%")
    while at != -1:
        digits = segment[at + 1 : at + 3]
        if len(digits) != 2 or not set(digits) <= _HEX or int(digits, 16) in _UNRESERVED:
            return False
        at = segment.find(b"%", at + 3)
    return True


def _readable(query: bytes) -> bool:
    return _is_text(unquote_to_bytes(query.replace(b"+", b" ")), lines=True)


def _is_text(decoded: bytes, *, lines: bool = False) -> bool:
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        return False
    return not any(
        (ord(each) < 0x20 and not (lines and each in "\t\r\n")) or ord(each) == 0x7F for each in text
    )
