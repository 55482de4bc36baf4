"""The HTTP application behind the edge: two listeners, each with its routes.

    gateway   the portal (`portal/routes.py: make_portal(services) -> Router`), what clients need, and in front
              of it the sign-in of Network Connect clients (`network_connect/routes.py`)
    admin     the console (`console/routes.py: make_console(services) -> Router`), REST below /api/v1,
              /metrics, /healthz, /readyz

Both routers are mounted at "/", behind the routes of this module; their routes are `access.GuardedRoute`s.
A route without a guard gets the strictest one. Public are only the routes in PUBLIC: a test fails when
that list grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount

from lockgate.model.problem import ProblemError
from lockgate.model.session import EndCause, Session
from lockgate.protocol.secret import Secret
from lockgate.server.web.access import Access, GuardedRoute, guard_all
from lockgate.server.web.api.app import make_api
from lockgate.server.web.console.routes import make_console
from lockgate.server.web.listeners import Door
from lockgate.server.web.monitoring import monitoring_routes
from lockgate.server.web.network_connect.routes import network_connect_routes
from lockgate.server.web.portal.routes import make_portal
from lockgate.server.web.principal import PUBLIC as ANYBODY
from lockgate.server.web.principal import Needs
from lockgate.server.web.problems import on_exception, on_http_error, on_problem
from lockgate.server.web.services import Services
from lockgate.server.web.tokens import Tokens

LOGOUT = "/dana-na/auth/logout.cgi"


def make_app(services: Services) -> Door:
    """The application; it holds no state of its own."""
    access = Access(services, make_tokens(services))
    return Door(
        {
            "gateway": _application(services, access, gateway_routes(services)),
            "admin": _application(services, access, admin_routes(services, access)),
        }
    )


def make_tokens(services: Services) -> Tokens:
    sign_ins = services.sign_ins

    async def nobody(_: str, __: str) -> None:
        return None

    return Tokens(
        services.store,
        services.in_force,
        services.audit,
        nobody if sign_ins is None else sign_ins.lookup,
        sign_ins,
        services.clock,
    )


def gateway_routes(services: Services) -> list[BaseRoute]:
    """What clients and users reach."""

    async def log_out(request: Request) -> Response:
        """Clients come here when their tunnel connection is gone already (if-t-tls.md, section 11)."""
        cookie = request.cookies.get("DSID", "")
        session = await services.sessions.by_cookie(Secret.of_text(cookie))
        if isinstance(session, Session):
            await services.running().end(session.id, EndCause.LOGOUT)
        response = PlainTextResponse("Signed out.\n")
        response.delete_cookie("DSID", path="/", secure=True, httponly=True, samesite="strict")
        return response

    return [
        GuardedRoute(LOGOUT, log_out, needs=ANYBODY, body=0),
        *network_connect_routes(services),
        *make_portal(services).routes,
    ]


def admin_routes(services: Services, access: Access) -> list[BaseRoute]:
    """What administrators and monitoring reach."""
    return [
        *monitoring_routes(services),
        Mount("/api/v1", make_api(services, access)),
        *make_console(services).routes,
    ]


def _application(services: Services, access: Access, routes: Sequence[BaseRoute]) -> Starlette:
    app = Starlette(
        routes=list(routes),
        exception_handlers={
            ProblemError: on_problem,
            HTTPException: on_http_error,
            Exception: on_exception,
        },
    )
    guard_all(app.router)
    # A redirect would tell which listener knows a path.
    app.router.redirect_slashes = False
    app.state.services, app.state.access = services, access
    return app


# -- the table of routes, for tests and documentation --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """One route as it is served."""

    listener: str
    path: str
    methods: frozenset[str]
    needs: Needs


def route_table(app: Door) -> list[Listed]:
    """Every route of both listeners. Raises TypeError for one without a guard."""
    return [
        each
        for listener, inner in app.apps.items()
        if isinstance(inner, Starlette)
        for each in _listed(listener, "", inner.routes)
    ]


def _listed(listener: str, prefix: str, routes: Sequence[BaseRoute]) -> Iterator[Listed]:
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        if isinstance(route, Mount):
            yield from _listed(listener, path, route.routes)
            continue
        needs = getattr(route, "needs", None)
        if not isinstance(needs, Needs):
            raise TypeError(f"the route {path} has no guard")
        methods = frozenset(getattr(route, "methods", None) or ())
        yield Listed(listener, path, methods, needs)
