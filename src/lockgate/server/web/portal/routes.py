"""Which URL of the gateway's listener is what of the portal.

The URLs of the sign-in policies of users are pages by themselves: sign-in, or home once somebody is signed
in. Everything else of the portal is below /portal/, which no policy takes from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Router

from lockgate.model.problem import ProblemError
from lockgate.model.session import Session
from lockgate.protocol.secret import Secret
from lockgate.server.auth.certificates import Authorities
from lockgate.server.client_uploads import ClientUploads
from lockgate.server.own_questions import OwnQuestions
from lockgate.server.sign_in_pages import PageArchives
from lockgate.server.user_records import UserRecords
from lockgate.server.web.access import GuardedRoute
from lockgate.server.web.extend import extend_tunnel
from lockgate.server.web.forms.assets import load_assets
from lockgate.server.web.portal.home import HomePages
from lockgate.server.web.portal.own import OwnPages
from lockgate.server.web.portal.pages import ARCHIVES, Pages, headers
from lockgate.server.web.portal.reach import ReachPages
from lockgate.server.web.portal.requests import MAX_FORM
from lockgate.server.web.portal.sign_in import AUDIENCE, SignInPages
from lockgate.server.web.principal import PORTAL, PUBLIC, NotAllowedError
from lockgate.server.web.sessions import LiveWebSession, cookie_values

if TYPE_CHECKING:
    from lockgate.server.web.services import Services

BASE = "/portal/"
FILES = BASE + "files/"
TUNNEL_COOKIE = "DSID"
MAX_UPLOAD = 201 << 20  # bytes; what the configuration may allow, and some more

Page = Callable[[Request, LiveWebSession, str], Awaitable[Response]]

_STATUS = {"upload-too-large": 413, "busy": 429, "uploads-off": 403, "upload-not-allowed": 403}


class Portal:
    """The handlers. One per application."""

    def __init__(self, services: Services) -> None:
        assert services.sign_ins is not None, "the portal belongs to a running server"
        gateway = services.gateway
        archives = PageArchives(services.store.blobs)
        self._assets = load_assets(FILES, ("portal/assets",))
        self._web, self._tunnels = services.web_sessions, services.sessions
        self._in_force = services.in_force
        self._pages = Pages(self._assets, archives, self._product)
        self._entrance = SignInPages(
            self._pages,
            services.sign_ins,
            services.web_sessions,
            services.in_force,
            Authorities(services.in_force, services.audit, services.clock),
        )
        kept = UserRecords(services.store.user_records, services.clock)
        self._home = HomePages(
            pages=self._pages,
            entrance=self._entrance,
            in_force=services.in_force,
            sign_ins=services.sign_ins,
            sessions=services.sessions,
            web=services.web_sessions,
            records=services.store.web_sessions,
            kept=kept,
            launches=services.launch_handles,
            end_tunnel=None if gateway is None else gateway.end,
            extend_tunnel=None if gateway is None else partial(extend_tunnel, services),
            clock=services.clock,
        )
        self._own = OwnPages(self._pages, self._home.shell, services.in_force, kept)
        questions = OwnQuestions(services.decisions, services.in_force, services.addresses, services.clock)
        self._reach = ReachPages(self._pages, self._home.shell, questions)
        self._uploads = ClientUploads(
            services.store.uploads, services.in_force, services.audit, services.clock
        )

    def _product(self) -> str:
        tree = self._in_force.tree
        return tree.cluster.cluster_name or tree.gateway.hostname

    # -- at the URLs of sign-in policies -----------------------------------------------------------

    async def entry(self, request: Request) -> Response:
        """Sign-in or home."""
        path = request.url.path
        policy = self._entrance.policy(request, path)
        if policy is None:
            if not path.endswith("/") and self._entrance.policy(request, f"{path}/") is not None:
                return RedirectResponse(f"{path}/", 308, headers=headers())
            return await self._not_found()
        live = await self._web.of_request(request, AUDIENCE)
        if request.method == "POST":
            return await self._entrance.answer(request, policy)
        if live is not None and live.record.realm in policy.realms:
            return await self._home.home(request, live, path)
        return await self._entrance.show(request, policy)

    async def _not_found(self) -> Response:
        return await self._pages.message(
            self._in_force.page(None),
            "refused",
            heading="Nothing is here",
            text="This address leads nowhere. Check it, or begin at the sign-in page.",
            again="/",
            again_text="To the sign-in page",
            status=404,
        )

    # -- behind the sign-in ------------------------------------------------------------------------

    def _page(self, path: str, page: Page, method: str) -> GuardedRoute:
        """A page for somebody who is signed in; others go to the sign-in."""

        async def handler(request: Request) -> Response:
            live: LiveWebSession = request.state.web_session
            return await page(request, live, self._where(request, live))

        return GuardedRoute(
            BASE + path, handler, needs=PORTAL, methods=[method], refused=self._refused, body=MAX_FORM
        )

    async def _refused(self, request: Request, error: NotAllowedError) -> Response:
        home = self._where(request, None)
        if error.status == 403:
            return await self._entrance.not_from_here(self._entrance.policy(request, home), home)
        if request.headers.get("sec-fetch-mode") in ("cors", "same-origin"):  # a script asks
            return JSONResponse({"code": error.problem.code}, error.status, headers=headers())
        return RedirectResponse(home, 303, headers=headers())

    def _where(self, request: Request, live: LiveWebSession | None) -> str:
        """The sign-in URL that the browser comes from, if it names one, else the first that fits."""
        came_from = urlsplit(request.headers.get("referer", ""))
        path = came_from.path if came_from.netloc == request.headers.get("host") else ""
        paths = [path, "/", *(policy.path for policy in self._in_force.policy.sign_in_policies)]
        for each in paths:
            policy = self._entrance.policy(request, each) if each.startswith("/") else None
            if policy is not None and (live is None or live.record.realm in policy.realms):
                return each
        return "/"

    def routes(self) -> list[GuardedRoute]:
        """All of them, in the order in which they are tried."""
        home, own = self._home, self._own
        return [
            GuardedRoute(FILES + "{name}", self.file, needs=PUBLIC),
            GuardedRoute(ARCHIVES + "{archive}/{name:path}", self.archive_file, needs=PUBLIC),
            self._page("start", home.start, "POST"),
            self._page("configuration", home.configuration, "GET"),
            self._page("sessions/end", home.end_session, "POST"),
            self._page("sessions/extend", home.extend_session, "POST"),
            self._page("reach", self._reach.show, "GET"),
            self._page("reach", self._reach.ask, "POST"),
            self._page("password", home.password, "GET"),
            self._page("password", home.change_password, "POST"),
            self._page("bookmarks", own.bookmarks, "GET"),
            self._page("bookmarks", own.change_bookmarks, "POST"),
            self._page("preferences", own.preferences, "GET"),
            self._page("preferences", own.change_preferences, "POST"),
            self._page("sign-out", home.sign_out, "POST"),
            GuardedRoute(BASE + "logs", self.upload, needs=PUBLIC, methods=["POST"], body=MAX_UPLOAD),
            GuardedRoute(
                "/{path:path}",
                self.entry,
                needs=PUBLIC,
                methods=["GET", "POST"],
                body=MAX_FORM,
                name="sign-in",
            ),
        ]

    # -- files -------------------------------------------------------------------------------------

    async def file(self, request: Request) -> Response:
        """Style sheet and script of ours."""
        encodings = request.headers.get("accept-encoding", "")
        return self._assets.answer(request.path_params["name"], encodings, headers("default-src 'none'"))

    async def archive_file(self, request: Request) -> Response:
        """A file of a custom sign-in page that is in use."""
        archive, name = request.path_params["archive"], request.path_params["name"]
        used = {page.templates for page in self._in_force.tree.sign_in_pages if page.kind == "custom"}
        found = await self._pages.file(archive, name) if archive in used else None
        return found or PlainTextResponse("Not found.\n", 404, headers=headers())

    # -- clients -----------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        """Logs of a client that has a session: the body, with the session's cookie."""
        cookies = cookie_values(request, TUNNEL_COOKIE)
        session = await self._tunnels.by_cookie(Secret.of_text(cookies[0])) if len(cookies) == 1 else None
        if not isinstance(session, Session):
            return JSONResponse({"code": "no-session"}, 401, headers=headers())
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() and len(declared) < 16 else None
        name = request.query_params.get("name", "")
        try:
            record = await self._uploads.accept(session, name, size, request.stream())
        except ProblemError as error:
            status = _STATUS.get(error.problem.code, 400)
            return JSONResponse(error.problem.as_dict(), status, headers=headers())
        return JSONResponse({"id": record.id, "size": record.size}, 201, headers=headers())


def make_portal(services: Services) -> Router:
    """The portal's routes, for the gateway's listener, behind everything else that it has. None without a server:
    nobody can sign in then."""
    if services.sign_ins is None:
        return Router(redirect_slashes=False)
    return Router(routes=Portal(services).routes(), redirect_slashes=False)
