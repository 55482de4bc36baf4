"""One request of an administrator, and how it is answered.

A handler gets an `Ask` and returns a response: a page, a redirection, a file. Problems become pages with what
happened, what to do, and the code.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.web.access import MAX_FIELDS, MAX_FILES
from lockgate.server.web.body import FORM_LIMIT
from lockgate.server.web.console.menu import BASE, entry, groups
from lockgate.server.web.console.working import Working
from lockgate.server.web.forms.assets import load_assets
from lockgate.server.web.forms.environment import make_environment
from lockgate.server.web.principal import NotAllowedError, Principal
from lockgate.server.web.problems import request_id, status_of
from lockgate.server.web.services import Services
from lockgate.server.web.sessions import WebSessions

STATIC = BASE + "static/"
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "lockgate-theme"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
"""Of every page; the listener adds what holds for everything."""

# What a page says above its content after something was done: code in the URL → sentence.
SAID = {
    "saved": "Saved in your draft. It takes effect when you commit it.",
    "unchanged": "Nothing was different, so nothing was saved.",
    "added": "Added to your draft. It takes effect when you commit it.",
    "removed": "Removed in your draft. It takes effect when you commit it.",
    "moved": "Moved in your draft. It takes effect when you commit it.",
    "committed": "Committed. The new revision is in force.",
    "discarded": "The draft is gone. Nothing was changed.",
    "rebased": "Your draft is now a change of the current revision.",
    "ended": "Ended.",
    "extended": "Extended.",
    "user-saved": "The user has been saved.",
    "record-deleted": "The bookmarks and preferences of the user have been deleted.",
    "user-added": "The user has been added.",
    "user-deleted": "The user has been deleted; their sessions have ended.",
    "password-set": "The password has been set; the user's sessions have ended.",
    "revoked": "The token is no longer accepted.",
    "deleted": "Deleted.",
}


@dataclass(frozen=True, slots=True)
class Console:
    """What all requests share."""

    services: Services
    working: Working
    environment: Environment

    @classmethod
    def of(cls, services: Services) -> Console:
        return cls(services, Working(services), _environment())


@functools.cache
def _environment() -> Environment:
    environment = make_environment(["lockgate.server.web.console"], load_assets(STATIC))
    environment.globals["base"] = BASE
    return environment


def compile_templates() -> None:
    """So that nobody waits for it who sees a page first. Takes a third of a second; from any thread."""
    environment = _environment()
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    console: Console
    request: Request
    principal: Principal

    @property
    def services(self) -> Services:
        return self.console.services

    @property
    def now(self) -> float:
        return self.services.clock()

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    def number(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number of the query, within limits."""
        text = self.query(name)
        return (
            min(max(int(text), low), high)
            if text.isascii() and text.isdigit() and len(text) < 16
            else default
        )

    async def form(self) -> dict[str, list[str]]:
        """The texts of the form, by name, in the order they were sent."""
        sent: dict[str, list[str]] = {}
        for name, value in (await self._form()).multi_items():
            if isinstance(value, str):
                sent.setdefault(name, []).append(value)
        return sent

    async def text(self, name: str, default: str = "") -> str:
        """The last text of that name in the form."""
        return (await self.form()).get(name, [default])[-1]

    async def file(self, name: str) -> bytes:
        """The content of an uploaded file; empty without one. Once: it is gone from memory then."""
        value = (await self._form()).get(name)
        if value is None or isinstance(value, str):
            return b""
        try:
            return await value.read()
        finally:
            await value.close()

    async def _form(self) -> Any:
        return await self.request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=FORM_LIMIT)

    # -- answers -----------------------------------------------------------------------------------

    async def page(
        self,
        template: str,
        id: str,
        *,
        status: int = 200,
        title: str = "",
        trail: Sequence[tuple[str, str]] = (),
        **values: Any,
    ) -> Response:
        """A page of the menu. trail: (text, URL) of what stands below its entry, the page itself last."""
        here = entry(id)
        pending = await self.console.working.pending(self.principal)
        text = self.console.environment.get_template(template).render(
            {
                "principal": self.principal,
                "here": here,
                "groups": groups(self.principal),
                "title": title or (here.title if here else ""),
                "trail": trail,
                "csrf": self._csrf(),
                "pending": pending,
                "said": SAID.get(self.query("said"), "") if status == 200 else "",
                "theme": self._theme(),
                "node": self._node(),
                "problem": None,
                "now": self.now,
                **values,
            }
        )
        return HTMLResponse(text, status_code=status, headers=HEADERS)

    async def problem(self, problem: Problem, status: int, id: str = "", **values: Any) -> Response:
        """A page that says what went wrong."""
        return await self.page(
            "problem.html",
            id,
            status=status,
            title="Not possible",
            problem=problem,
            request_id=request_id(self.request),
            **values,
        )

    def go(self, url: str, said: str = "") -> Response:
        """On to another page, which says that something was done. said: a key of SAID."""
        if said:
            url += ("&" if "?" in url else "?") + urlencode({"said": said})
        return RedirectResponse(url, status_code=303, headers=HEADERS)

    def _csrf(self) -> str:
        session = getattr(self.request.state, "web_session", None)
        return WebSessions.form_token(session.record) if session is not None else ""

    def _theme(self) -> str:
        chosen = self.request.cookies.get(THEME_COOKIE, "")
        return chosen if chosen in THEMES else "auto"

    def _node(self) -> str:
        tree = self.services.in_force.tree
        return tree.cluster.node_name or tree.gateway.hostname


Handler = Callable[[Ask], Awaitable[Response]]


def answer(console: Console, handler: Handler, id: str = "") -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a route: the handler, and pages for what it raises. id: of the menu's entry."""

    async def endpoint(request: Request) -> Response:
        ask = Ask(console, request, request.state.principal)
        try:
            return await handler(ask)
        except NotAllowedError as error:
            return await ask.problem(error.problem, error.status, id)
        except ProblemError as error:
            return await ask.problem(error.problem, status_of(error.problem.code), id)

    return endpoint


def file(content: bytes, name: str, content_type: str) -> Response:
    """A download. name: plain ASCII without quotes."""
    return Response(
        content,
        media_type=content_type,
        headers={**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'},
    )


def with_query(request: Request, **changed: str) -> str:
    """The request's address with parts of its query changed; empty ones left out."""
    query: Mapping[str, str] = {**request.query_params, **changed}
    kept = {key: value for key, value in query.items() if value and key != "said"}
    return request.url.path + (f"?{urlencode(kept)}" if kept else "")
