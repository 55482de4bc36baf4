"""Which address of the console does what, and which right it asks for."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Router

from lockgate.server.web.access import GuardedRoute
from lockgate.server.web.console import (
    about,
    changes,
    custom_pages,
    logs,
    overview,
    preferences,
    record_peers,
    revisions,
    search,
    sessions,
    settings,
    sign_in,
    tokens,
    tracing,
    transfer,
    uploads,
    users,
    what_if,
)
from lockgate.server.web.console.ask import HEADERS, STATIC, Ask, Console, Handler, answer
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.forms.assets import load_assets
from lockgate.server.web.principal import PUBLIC, Needs, NotAllowedError, needs, needs_any
from lockgate.server.web.problems import NOT_FOUND
from lockgate.server.web.services import Services


def make_console(services: Services) -> Router:
    """The console's routes; they belong on the administrators' listener only."""
    console = Console.of(services)
    entrance = sign_in.ConsoleSignIn(console)

    async def refused(request: Request, error: NotAllowedError) -> Response:
        if error.status != 401:
            return entrance.not_allowed(request, error)
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        where = sign_in.SIGN_IN + ("" if back == BASE or request.method != "GET" else f"?to={quote(back)}")
        if request.headers.get("hx-request"):
            return Response(headers={**HEADERS, "HX-Redirect": where})
        return RedirectResponse(where, status_code=303, headers=HEADERS)

    def page(
        path: str, handler: Handler, needs: Needs, id: str = "", methods: tuple[str, ...] = ("GET",)
    ) -> GuardedRoute:
        return GuardedRoute(
            BASE + path, answer(console, handler, id), needs=needs, methods=methods, refused=refused
        )

    any_read, any_write = needs_any("read"), needs_any("write")
    post = ("POST",)
    routes = [
        GuardedRoute(STATIC + "{name}", _static, needs=PUBLIC),
        GuardedRoute("/", _to_console, needs=PUBLIC),
        *sign_in.routes(entrance),
        page("", overview.show, any_read, "overview"),
        page("overview.csv", overview.export, needs("system"), "overview"),
        page("preferences", preferences.save, any_read, methods=post),
        page("search", search.show, any_read),
        page("search/found", search.show_found, any_read),
        page("settings/{page}", settings.show, any_read),
        page("settings/{page}", settings.save, any_write, methods=post),
        page("settings/{page}/json", settings.show_json, any_read),
        page("settings/{page}/remove", settings.remove, any_write, methods=post),
        page("settings/{page}/move", settings.move, any_write, methods=post),
        page("changes", changes.show, any_read),
        page("changes", changes.act, any_write, methods=post),
        # The history of a place is open to whoever may see the place; the handler asks.
        page("revisions", revisions.show, any_read, "revisions"),
        page("revisions/{number:int}", revisions.show_one, needs("maintenance"), "revisions"),
        page("revisions/{number:int}", revisions.roll_back, needs("maintenance", "write"), "revisions", post),
        page("import-export", transfer.show, needs("maintenance"), "import-export"),
        page("import-export/export", transfer.export, needs("maintenance"), "import-export", post),
        page("import-export/import", transfer.import_, needs("maintenance", "write"), "import-export", post),
        page("push", transfer.show_push, needs("maintenance"), "push"),
        page("push", transfer.push, needs("maintenance", "write"), "push", post),
        page("installers", transfer.show_installers, needs("connections"), "installers"),
        page("installers", transfer.installer, needs("connections"), "installers", post),
        page("sessions", sessions.show, needs("sessions"), "sessions"),
        page("sessions/end", sessions.end, needs("sessions", "write"), "sessions", post),
        page("sessions/extend", sessions.extend, needs("sessions", "write"), "sessions", post),
        page("sessions/{session:int}", sessions.show_one, needs("sessions"), "sessions"),
        page("browsers", sessions.show_browsers, needs("sessions"), "browsers"),
        page("browsers/end", sessions.end_browser, needs("sessions", "write"), "browsers", post),
        page("users", users.show, needs("users"), "users"),
        page("users/new", users.show_new, needs("users", "write"), "users"),
        page("users/new", users.add, needs("users", "write"), "users", post),
        page("users/one", users.show_one, needs("users"), "users"),
        page("users/one", users.act, needs("users", "write"), "users", post),
        page("tokens", tokens.show, any_read, "tokens"),
        page("tokens", tokens.act, any_read, "tokens", post),
        *(
            route
            for name, entry in logs.IDS.items()
            for route in (
                page(f"logs/{name}", logs.of(name, logs.show), needs("logs"), entry),
                page(f"logs/{name}/verify", logs.of(name, logs.verify), needs("logs"), entry, post),
            )
        ),
        page("uploaded-logs", uploads.show, needs("system"), "uploaded-logs"),
        page("uploaded-logs", uploads.delete, needs("system", "write"), "uploaded-logs", post),
        page("upload-sign-in-pages", custom_pages.show, needs("authentication"), custom_pages.ID),
        page(
            "upload-sign-in-pages",
            custom_pages.upload,
            needs("authentication", "write"),
            custom_pages.ID,
            post,
        ),
        page("tracing", tracing.show, needs("logs"), "tracing"),
        page("what-if", what_if.show, needs("logs"), "what-if"),
        page("record-peers", record_peers.show, needs("system"), "record-peers"),
        page("certificate", about.show_certificate, needs("system"), "device-certificate"),
        page("about", about.show, any_read, "about"),
        page("{path:path}", _not_found, any_read),
        *sign_in.other_routes(entrance),
    ]
    router = Router(routes=routes)
    router.redirect_slashes = False
    return router


async def _not_found(ask: Ask) -> Response:
    return await ask.problem(NOT_FOUND, 404)


async def _to_console(_: Request) -> Response:
    return RedirectResponse(BASE, status_code=303, headers=HEADERS)


async def _static(request: Request) -> Response:
    """A style sheet or script, from the table made at start. Its name changes with its content."""
    encodings = request.headers.get("accept-encoding", "")
    return load_assets(STATIC).answer(request.path_params["name"], encodings, HEADERS)
