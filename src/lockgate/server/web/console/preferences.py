"""What an administrator wants of the console: light or dark."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import Response

from lockgate.server.web.console.ask import THEME_COOKIE, THEMES, Ask
from lockgate.server.web.console.menu import BASE

YEAR = 365 * 86400  # seconds


async def save(ask: Ask) -> Response:
    """POST: back to the page it was asked on, in other colours."""
    theme = await ask.text("theme")
    referer = urlsplit(ask.request.headers.get("referer", ""))
    host = ask.request.headers.get("host", "")
    back = BASE
    if referer.netloc == host and referer.path.startswith(BASE):
        back = referer.path + (f"?{referer.query}" if referer.query else "")
    response = ask.go(back)
    if theme in THEMES:
        response.set_cookie(
            THEME_COOKIE, theme, max_age=YEAR, path=BASE, secure=True, httponly=True, samesite="strict"
        )
    return response
