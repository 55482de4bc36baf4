"""The URLs of a Network Connect sign-in, from the gateway's address to a session.

    GET  any address                     to the sign-in page, with the sign-in policy of that address in a cookie
    GET  …/url_default/welcome.cgi       the first form of a new sign-in
    POST …/url_default/login.cgi         the next one; or the session's cookie, and on to the home page
    GET  …/url_default/login.cgi?role=…  a role that was chosen by its link
    GET  /dana/home/index.cgi            some text

A client forgets nothing but what it is told to, sends every cookie everywhere and has no other header to know
its own forms by than a hidden field. The tunnel and the log-out are elsewhere (`gateway.entrance`, `web.app`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from lockgate.model.facts import CertificateFacts
from lockgate.model.prompt import Prompt, Refused, RoleChoice, SessionChoice, SignedIn
from lockgate.protocol.secret import Secret
from lockgate.server import tracing
from lockgate.server.auth.certificates import Authorities
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.sign_in import NOT_HERE, SignIn
from lockgate.server.gateway.entrance import COOKIE
from lockgate.server.web import signing_in
from lockgate.server.web.access import GuardedRoute, from_our_pages
from lockgate.server.web.cookies import cookie_values
from lockgate.server.web.forms.prompts import Answer, answer_of, form_of
from lockgate.server.web.network_connect.forms import (
    AGAIN,
    TOKEN,
    given_in,
    message_page,
    prompt_page,
    refusal_page,
)
from lockgate.server.web.peer import Peer
from lockgate.server.web.portal.requests import MAX_FORM, client_of, read_form
from lockgate.server.web.principal import PUBLIC
from lockgate.server.web.sessions import check_form_token, form_token
from lockgate.server.web.signing_in import SigningIn

if TYPE_CHECKING:
    from lockgate.server.web.services import Services

FRONT: Final = "network-connect"
FOLDER = "/dana-na/auth/url_default/"
WELCOME, LOGIN, HOME = f"{FOLDER}welcome.cgi", f"{FOLDER}login.cgi", "/dana/home/index.cgi"
PAGE_COOKIE, URL_COOKIE = "DSSIGNIN", "DSSignInURL"

_HEADER = (b"ncp-version", b"3")
_OFF = "Network Connect clients cannot sign in at this gateway."
_NOT_OURS = "The form was too old, or something else sent it. Sign in again."


class NetworkConnectRoute(GuardedRoute):
    """A route that is there for Network Connect clients alone. No page of another site can send their header."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or _HEADER not in scope["headers"]:
            return Match.NONE, {}
        return super().matches(scope)


class NetworkConnect:
    """The handlers. One per application."""

    def __init__(self, services: Services) -> None:
        assert services.sign_ins is not None, "it belongs to a running server"
        self._sign_ins, self._sessions = services.sign_ins, services.sessions
        self._in_force, self._gateway, self._clock = services.in_force, services.gateway, services.clock
        self._table = services.web_sessions.signing_in
        self._authorities = Authorities(services.in_force, services.audit, services.clock)

    def routes(self) -> list[GuardedRoute]:
        """All of them, in the order in which they are tried."""
        return [
            NetworkConnectRoute(WELCOME, self.welcome, needs=PUBLIC, methods=["GET", "POST"], body=MAX_FORM),
            NetworkConnectRoute(LOGIN, self.login, needs=PUBLIC, methods=["GET", "POST"], body=MAX_FORM),
            NetworkConnectRoute(HOME, self.home, needs=PUBLIC),
            NetworkConnectRoute("/{path:path}", self.start, needs=PUBLIC, name="network-connect"),
        ]

    # -- before the sign-in ------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """The gateway's address, or any below it: the policy of sign-ins there goes along as a cookie."""
        if not self._on:
            return _stop(_OFF)
        policy = self._sign_ins.policy(_request(request, request.url.path))
        if policy is None:
            return _stop(NOT_HERE.text)
        response = RedirectResponse(WELCOME, 302)
        _set(response, PAGE_COOKIE, "url_default")
        _set(response, URL_COOKIE, policy.path)
        return response

    async def welcome(self, request: Request) -> Response:
        """A new sign-in, whatever the client was at. POST is the answer to "Sign in again?"."""
        if not self._on:
            return _stop(_OFF)
        if request.method == "POST":
            form = await read_form(request)
            if form is None or not form.get(AGAIN):
                return _stop("You are not signed in.")
        # No conversation where there is no sign-in: each would be a line in the audit, which anybody could fill.
        urls = cookie_values(request, URL_COOKIE)
        for path in (*(urls if len(urls) == 1 else ()), "/"):
            if self._sign_ins.policy(_request(request, path)) is not None:
                return await self._begin(request, path)
        return _stop(NOT_HERE.text)

    async def _begin(self, request: Request, path: str) -> Response:
        peer = Peer.of(request)
        certificate = await self._authorities.judge(peer.certificates, peer.address)
        conversation = self._sign_ins.conversation(_request(request, path, certificate), opens_session=True)
        step = await conversation.start()
        if isinstance(step, Refused | SignedIn):
            # No form: a client that answers by itself would come back at once, for ever.
            return _stop(" ".join(step.lines()) if isinstance(step, Refused) else "You are not signed in.")
        cookie, entry = self._table.begin(FRONT, peer.address, conversation, step, path)
        response = _form(entry)
        _set(response, signing_in.COOKIES[FRONT], cookie.reveal_text())
        return response

    # -- one prompt after the other ----------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """What was typed, or the role that was chosen."""
        if not self._on:
            return _stop(_OFF)
        typed: Mapping[str, str] | None = None
        if request.method == "POST" and from_our_pages(request):
            # Before the prompt is looked at: while a form is on its way another one may be answered.
            typed = await read_form(request)
        cookie = signing_in.cookie_of(request, FRONT)
        entry = None if cookie is None else self._table.look(cookie, FRONT)
        if cookie is None or entry is None:
            return RedirectResponse(WELCOME, 302)  # it took too long, or the server was started again
        given = self._given(request, typed, entry.prompt)
        if given is None or not check_form_token(entry.csrf, given.get(TOKEN, "")):
            return _stop(_NOT_OURS)
        if self._table.take(cookie, FRONT) is None:
            return RedirectResponse(WELCOME, 302)
        return await self._go_on(request, cookie, entry, given)

    @staticmethod
    def _given(request: Request, typed: Mapping[str, str] | None, prompt: Prompt) -> Mapping[str, str] | None:
        """None for what no page of ours makes a client send. A role is chosen by following its link."""
        if request.method == "POST":
            return None if typed is None else given_in(typed)
        if not isinstance(prompt, RoleChoice):
            return None
        query = request.query_params
        return {"roles": query.get("role", ""), TOKEN: query.get(TOKEN, "")}

    async def _go_on(
        self, request: Request, cookie: Secret, entry: SigningIn, given: Mapping[str, str]
    ) -> Response:
        if isinstance(entry.prompt, SessionChoice) and not given.get("session"):
            answer = Answer({"session": ""})  # "None", which is the end of this sign-in
        else:
            answer = answer_of(entry.prompt, given)
        if answer.complaint:
            return _form(self._table.put(cookie, entry, entry.prompt), answer.complaint)
        step = await entry.conversation.answer(answer.fields)
        if isinstance(step, SignedIn):
            return await self._enter(request, entry, step)
        if isinstance(step, Refused):
            return _refuse(step)
        return _form(self._table.put(cookie, entry, step))

    async def _enter(self, request: Request, entry: SigningIn, step: SignedIn) -> Response:
        """The session, whose cookie nobody has seen before; its tunnel is asked for next."""
        assert isinstance(entry.conversation, SignIn)
        with tracing.part("session commit"):
            opened = await self._sessions.open(
                step.identity, client_of(request), before=entry.conversation.unwritten, only4=True
            )
        if isinstance(opened, Refused):
            return _refuse(opened)
        if self._gateway is not None:
            self._gateway.expect(opened.session)
        response = RedirectResponse(HOME, 302)
        now = str(int(self._clock()))
        _set(response, COOKIE, opened.cookie.reveal_text())
        _set(response, "DSFirstAccess", now)
        _set(response, "DSLastAccess", now)
        _delete(response, signing_in.COOKIES[FRONT])
        return response

    async def home(self, _: Request) -> Response:
        """A client follows here, and wants to see something."""
        return PlainTextResponse("Signed in.\n")

    @property
    def _on(self) -> bool:
        return self._in_force.tree.gateway.network_connect


def _request(request: Request, path: str, certificate: CertificateFacts | None = None) -> SignInRequest:
    host = request.headers.get("host", "")
    return SignInRequest("users", host, path, client_of(request), certificate, "tunnel")


def _form(entry: SigningIn, error: str = "") -> Response:
    return HTMLResponse(prompt_page(form_of(entry.prompt, error=error), form_token(entry.csrf)))


def _refuse(refused: Refused) -> Response:
    """What went wrong, and a question whether to try again."""
    response = HTMLResponse(refusal_page("\n".join(refused.lines())))
    _delete(response, signing_in.COOKIES[FRONT])
    return response


def _stop(text: str) -> Response:
    """A page that a client does not go on from."""
    return HTMLResponse(message_page("Not signed in", text), 403)


def _set(response: Response, name: str, value: str) -> None:
    # By hand: a path would be put in quotes, which these clients take for a part of it. No value of ours needs any.
    response.headers.append("set-cookie", f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=strict")


def _delete(response: Response, name: str) -> None:
    response.headers.append("set-cookie", f"{name}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=strict")


def network_connect_routes(services: Services) -> list[GuardedRoute]:
    """In front of the portal's routes. None without a server: nobody can sign in then."""
    return [] if services.sign_ins is None else NetworkConnect(services).routes()
