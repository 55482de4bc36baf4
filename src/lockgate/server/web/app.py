"""The HTTP application behind the edge.

Routes are listed here, each for one listener; everything else is not found. Public are only those in
PUBLIC: a test fails when that list grows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lockgate.model.session import EndCause, Session
from lockgate.protocol.secret import Secret
from lockgate.server.gateway.service import GatewayService
from lockgate.server.sessions import Sessions
from lockgate.server.web.peer import Peer

LOGOUT = "/dana-na/auth/logout.cgi"
HEALTH = "/healthz"
PUBLIC = {("gateway", "/"), ("gateway", LOGOUT), ("admin", HEALTH)}

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Strict-Transport-Security": "max-age=31536000",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def _on(listener: str, endpoint: Endpoint) -> Endpoint:
    """The route exists on one listener only; on the other it is not found like any unknown path."""

    async def guarded(request: Request) -> Response:
        if Peer.of(request).listener != listener:
            return _not_found()
        response = await endpoint(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        return response

    return guarded


def _not_found() -> Response:
    return PlainTextResponse("Not found.\n", status_code=404, headers=_HEADERS)


def make_app(gateway: GatewayService, sessions: Sessions) -> Starlette:
    """The application; it holds no state of its own."""

    async def root(_: Request) -> Response:
        return PlainTextResponse(
            "This is a Lockgate gateway. Connect with a VPN client, for example:\n"
            "  openconnect --protocol=pulse https://this-address/\n"
        )

    async def log_out(request: Request) -> Response:
        """Clients come here when their tunnel connection is gone already (if-t-tls.md, section 11)."""
        cookie = request.cookies.get("DSID", "")
        session = await sessions.by_cookie(Secret.of_text(cookie))
        if isinstance(session, Session):
            await gateway.end(session.id, EndCause.LOGOUT)
        response = PlainTextResponse("Signed out.\n")
        response.delete_cookie("DSID", path="/", secure=True, httponly=True, samesite="strict")
        return response

    async def health(_: Request) -> Response:
        up = gateway.edge_is_up
        return JSONResponse({"edge": "up" if up else "down"}, status_code=200 if up else 503)

    async def not_found(_: Request, __: Exception) -> Response:
        return _not_found()

    app = Starlette(
        routes=[
            Route("/", _on("gateway", root), methods=["GET"]),
            Route(LOGOUT, _on("gateway", log_out), methods=["GET"]),
            Route(HEALTH, _on("admin", health), methods=["GET"]),
        ],
        exception_handlers={404: not_found, 405: not_found},
    )
    # A redirect would tell which listener knows a path.
    app.router.redirect_slashes = False
    return app
