"""Events, user access, admin access, flows: filter, pages, export, and whether the record is whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from lockgate.model.support_code import MAX_TYPED, parse_support_code
from lockgate.server.decisions import BAD_CODE
from lockgate.server.web.console.ask import Ask, Handler, with_query
from lockgate.server.web.console.rest import PREFIX, rest

PAGE_SIZE = 100
IDS = {"events": "log-events", "user-access": "log-user", "admin-access": "log-admin", "flows": "log-flows"}
FORMATS = (("csv", "CSV"), ("jsonl", "JSON lines"), ("syslog", "Syslog"))


def _time(text: str) -> float | None:
    """A time as a browser's field gives it, UTC; None for none."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _address(text: str) -> str:
    """An address as somebody typed it, in its usual form; what is none matches nothing."""
    try:
        return str(ip_address(text.strip())) if text.strip() else ""
    except ValueError:
        return "::"


def _session(ask: Ask) -> int | None:
    text = ask.query("session").strip()
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
    return number if number is None or number < 1 << 63 else None


def _port(ask: Ask) -> int | None:
    port = ask.number("port", 0, 65535, -1)
    return None if port < 0 else port


def of(name: str, handler: Callable[[Ask, str], Awaitable[Response]]) -> Handler:
    """The handler of one of the logs."""

    async def answer(ask: Ask) -> Response:
        return await handler(ask, name)

    return answer


async def show(ask: Ask, name: str, verified: Any = None) -> Response:
    """GET: lines, newest first."""
    typed = ask.query("code").strip()[:MAX_TYPED]
    code = parse_support_code(typed) if typed else ""
    wanted = {
        "text": ask.query("q")[:200],
        "user": ask.query("user")[:200],
        "source": ask.query("source")[:64],
        "event": ask.query("event")[:64],
        "code": code or "",
        "session": _session(ask),
        "remote": _address(ask.query("remote")[:64]) if name == "flows" else "",
        "port": _port(ask) if name == "flows" else None,
        "outcome": ask.query("outcome") if ask.query("outcome") in ("ok", "failed") else "",
        "since": _time(ask.query("since")),
        "until": _time(ask.query("until")),
    }
    before = ask.number("before", 1, 1 << 60, 0) or None
    found: dict[str, Any] = {"entries": [], "following": None}
    if code is not None:
        query = {**wanted, "limit": PAGE_SIZE, "before": before}
        found = await rest(ask, "GET", f"logs/{name}", query=query)
    live = bool(ask.query("live")) and not before
    given = urlencode({key: value for key, value in wanted.items() if value not in ("", None)})
    return await ask.page(
        "logs.html",
        IDS[name],
        name=name,
        entries=found["entries"],
        problem=BAD_CODE if code is None else None,
        status=422 if code is None else 200,
        wanted={**wanted, "code": code or typed},
        remote=ask.query("remote"),
        since=ask.query("since"),
        until=ask.query("until"),
        filtered=bool(given or typed),
        following=with_query(ask.request, before=str(found["following"])) if found["following"] else "",
        first=with_query(ask.request, before="") if before else "",
        exports=[
            (text, f"{PREFIX}logs/{name}/export?{urlencode({'format': key})}{'&' + given if given else ''}")
            for key, text in FORMATS
        ],
        verified=verified,
        live=live,
        here_url=with_query(ask.request),
        live_url=with_query(ask.request, live="" if live else "1", before=""),
    )


async def verify(ask: Ask, name: str) -> Response:
    """POST: looks whether any line was changed, removed or moved."""
    return await show(ask, name, await rest(ask, "POST", "audit/verify"))
