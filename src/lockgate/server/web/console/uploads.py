"""Logs that clients have sent."""

from __future__ import annotations

from starlette.responses import Response

from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.console.rest import PREFIX, rest, segment


async def show(ask: Ask) -> Response:
    """GET: a list; each is a download, never a page."""
    found = (await rest(ask, "GET", "uploads"))["uploads"]
    text = ask.query("q").strip()[:100]
    fields = ("user", "host_name", "name")
    wanted = [each for each in found if any(text.casefold() in str(each[key]).casefold() for key in fields)]
    return await ask.page(
        "uploads.html",
        "uploaded-logs",
        uploads=[{**each, "url": f"{PREFIX}uploads/{segment(each['id'])}/content"} for each in wanted],
        text=text,
        size=sum(each["size"] for each in found),
        may_delete=ask.principal.may("system", "write"),
    )


async def delete(ask: Ask) -> Response:
    """POST: deletes one."""
    await rest(ask, "DELETE", f"uploads/{segment(await ask.text('upload'))}")
    return ask.go(BASE + "uploaded-logs", "deleted")
