"""Who asks, and may they: what stands in front of every route.

A route object carries its `Needs`; the guard that judges them is part of that object, so that the check and
the handler cannot be of two different routes. A route without one needs the right to write administrators.

Administrators come by the console's cookie, by a token, or from this very process (`local`). A request that
changes something and comes by cookie must be from our own pages, and say so: origin, and anti-forgery text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router

from lockgate.model.problem import Problem
from lockgate.protocol.secret import Secret
from lockgate.server.store.records import WebSessionRecord
from lockgate.server.web.body import FORM_LIMIT, SMALL_FORM, allow_body
from lockgate.server.web.peer import Peer
from lockgate.server.web.principal import (
    ADMINISTRATOR,
    Needs,
    NotAllowedError,
    Principal,
    rights_of_roles,
    unauthenticated,
)
from lockgate.server.web.services import Services
from lockgate.server.web.sessions import FORM_FIELD, FORM_HEADER, LiveWebSession
from lockgate.server.web.tokens import Tokens

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_FIELDS = 5000  # of a form; the largest table of settings has some hundreds of rows
MAX_FILES = 10
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

# The control plane may write no temporary file: what is uploaded in a form stays in memory, within FORM_LIMIT.
MultiPartParser.spool_max_size = FORM_LIMIT

Endpoint = Callable[[Request], Awaitable[Response]]
Refused = Callable[[Request, NotAllowedError], Awaitable[Response]]

_FORGED = Problem(
    "forged",
    "The request does not come from a page of this gateway that is still open.",
    "Load the page again and repeat what you did.",
)


class Access:
    """Finds out who asks. One per application; `request.app.state.access`."""

    def __init__(self, services: Services, tokens: Tokens) -> None:
        self._services, self._tokens = services, tokens

    async def admit(self, request: Request, needs: Needs) -> None:
        """Leaves the principal in `request.state.principal`, a browser's session in `.web_session`.

        Raises NotAllowedError.
        """
        request.state.principal = request.state.web_session = None
        if needs.kind == "public":
            return
        if needs.kind == "portal":
            session = await self._services.web_sessions.of_request(request, "portal")
            if session is None:
                raise unauthenticated()
            await self._check_forgery(request, session.record)
            request.state.web_session = session
            return
        principal = await self.administrator(request)
        needs.judge(principal)
        request.state.principal = principal

    async def administrator(self, request: Request) -> Principal:
        """Who asks on the administrators' listener. Raises NotAllowedError."""
        known = request.scope.get("lockgate.principal")
        if isinstance(known, Principal):  # a local command: no request from outside can make this key
            return known
        peer = Peer.of(request)
        given = request.headers.getlist("authorization")
        if given:
            kind, _, token = given[0].partition(" ")
            if len(given) > 1 or kind.lower() != "bearer":
                raise unauthenticated()
            user_agent = request.headers.get("user-agent", "")
            return await self._tokens.principal(Secret.of_text(token.strip()), peer.address, user_agent)
        session = await self._services.web_sessions.of_request(request, "console")
        if session is None:
            raise unauthenticated()
        await self._check_forgery(request, session.record)
        request.state.web_session = session
        return self.of_session(session, peer.address)

    def of_session(self, session: LiveWebSession, source: str) -> Principal:
        """The rights of the session's delegated roles in the configuration in force."""
        return Principal(
            name=session.user,
            kind="console",
            rights=rights_of_roles(self._services.in_force.tree.admin_roles, session.roles),
            source=source,
            server=session.record.server,
            roles=session.roles,
            session=session.id,
        )

    async def _check_forgery(self, request: Request, record: WebSessionRecord) -> None:
        if request.method in SAFE:
            return
        if not from_our_pages(request):
            raise NotAllowedError(403, _FORGED)
        given = request.headers.get(FORM_HEADER)
        if given is None:
            given = await form_text(request, FORM_FIELD)
        if not self._services.web_sessions.check_form_token(record, given):
            raise NotAllowedError(403, _FORGED)


def from_our_pages(request: Request) -> bool:
    """Whether the browser says that a page of this origin sent the request; one that says nothing may."""
    origin, site = request.headers.getlist("origin"), request.headers.getlist("sec-fetch-site")
    host = request.headers.get("host", "")
    if origin and origin != [f"https://{host}"]:
        return False
    return not site or site in (["same-origin"], ["none"])


async def form_text(request: Request, field: str) -> str:
    """A text of the form in the body; "" without one. The form is read once, handlers get the same."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _FORMS:
        return ""
    form = await request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=FORM_LIMIT)
    values = form.getlist(field)
    return values[0] if len(values) == 1 and isinstance(values[0], str) else ""


class GuardedRoute(Route):
    """A page: its address, what it needs, and who answers.

    needs:   `PUBLIC`, `PORTAL`, or rights of an administrator (`needs(area, right)`, `needs_any(right)`).
    refused: answers when the guard says no, for example with the way to the sign-in page. Without it the
             answer is a problem document.
    body:    largest body in bytes; without it none for looking, FORM_LIMIT for administrators' forms,
             SMALL_FORM for everybody else's.
    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        *,
        needs: Needs = ADMINISTRATOR,
        methods: Collection[str] = ("GET",),
        refused: Refused | None = None,
        body: int | None = None,
        name: str | None = None,
    ) -> None:
        self.needs = needs
        limit = _default_limit(needs, methods) if body is None else body

        async def guarded(request: Request) -> Response:
            allow_body(request, limit)
            access: Access = request.app.state.access
            try:
                await access.admit(request, needs)
            except NotAllowedError as error:
                if refused is None:
                    raise
                return await refused(request, error)
            return await endpoint(request)

        super().__init__(path, guarded, methods=list(methods), name=name)


def _default_limit(needs: Needs, methods: Collection[str]) -> int:
    if set(methods) <= SAFE:
        return 0
    return FORM_LIMIT if needs.kind in ("any", "area") else SMALL_FORM


def guard_all(router: Router) -> Router:
    """Puts the strictest guard in front of every route that has none."""
    _guard(router.routes)
    return router


def _guard(routes: Sequence[BaseRoute]) -> None:
    for route in routes:
        if isinstance(route, Mount):
            if route.routes:
                _guard(route.routes)
            else:
                route.app = _Strict(route.app)
        elif getattr(route, "needs", None) is None:
            route.app = _Strict(route.app)  # type: ignore[attr-defined]
            route.needs = ADMINISTRATOR  # type: ignore[attr-defined]


class _Strict:
    """An application for those who may write administrators."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await scope["app"].state.access.admit(request, ADMINISTRATOR)
        await self._app(scope, receive, send)
