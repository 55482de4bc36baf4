"""The administrators' sign-in: a conversation as pages, one form after the other, until there is a session.

Each sign-in policy of administrators has its URL on this listener; /admin/sign-in leads to the one that stands for
the console itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute

from lockgate.model.policy import SignInPolicy
from lockgate.model.problem import ProblemError
from lockgate.model.prompt import Refused, SignedIn
from lockgate.model.session import ClientFacts
from lockgate.model.text import printable
from lockgate.protocol.secret import Secret
from lockgate.server.auth.certificates import Authorities
from lockgate.server.auth.request import SignInRequest
from lockgate.server.web import sessions as web_sessions
from lockgate.server.web import signing_in
from lockgate.server.web.access import GuardedRoute, from_our_pages
from lockgate.server.web.console.ask import HEADERS, THEME_COOKIE, THEMES, Console
from lockgate.server.web.console.menu import BASE, page_of_ours
from lockgate.server.web.forms.prompts import Labels, PromptForm, answer_of, form_of
from lockgate.server.web.peer import Peer
from lockgate.server.web.principal import PUBLIC, NotAllowedError
from lockgate.server.web.problems import NOT_FOUND, problem_response
from lockgate.server.web.sessions import FORM_FIELD, check_form_token, form_token
from lockgate.server.web.signing_in import SigningIn

AUDIENCE: Final = "console"
FORM_BODY = 32 << 10  # bytes: a name and passwords
MAX_FIELDS = 20
SIGN_IN = BASE + "sign-in"


class ConsoleSignIn:
    """Answers browsers that have no session yet, and those that end theirs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        services = console.services
        self._sessions, self._in_force = services.web_sessions, services.in_force
        self._authorities = Authorities(services.in_force, services.audit, services.clock)

    # -- GET ---------------------------------------------------------------------------------------

    async def show(self, request: Request) -> Response:
        """The prompt that waits for this browser's answer, or the first one of a new sign-in."""
        cookie = signing_in.cookie_of(request, AUDIENCE)
        entry = None if cookie is None else self._sessions.signing_in.look(cookie, AUDIENCE)
        if entry is not None and not request.query_params.get("again"):
            return self._prompt(request, entry)
        sign_ins = self._console.services.sign_ins
        if sign_ins is None:
            return self._page(
                request, "message.html", 503, text="The gateway is not running.", code="server-not-running"
            )
        asked = await self._asked(request)
        conversation = sign_ins.conversation(asked)
        step = await conversation.start()
        if isinstance(step, Refused | SignedIn):
            return self._refuse(request, step)
        cookie, entry = self._sessions.signing_in.begin(
            AUDIENCE, Peer.of(request).address, conversation, step, _way_back(request)
        )
        response = self._prompt(request, entry)
        signing_in.set_cookie(response, AUDIENCE, cookie)
        return response

    async def elsewhere(self, request: Request) -> Response:
        """The sign-in URLs of other policies of administrators; everything else is not found."""
        found = self._policy(request)
        if found is None or found.path != request.url.path:
            return problem_response(request, NOT_FOUND)
        return await (self.show(request) if request.method in ("GET", "HEAD") else self.answer(request))

    # -- POST --------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Response:
        """Takes what was typed into the form of the last prompt."""
        form = await request.form(max_files=0, max_fields=MAX_FIELDS) if from_our_pages(request) else None
        fields = {name: value for name, value in (form or {}).items() if isinstance(value, str)}
        cookie = signing_in.cookie_of(request, AUDIENCE)
        table = self._sessions.signing_in
        entry = None if cookie is None else table.look(cookie, AUDIENCE)
        if cookie is None or entry is None:
            return self._again(request)  # it took too long, or the server was started again
        if not check_form_token(entry.csrf, fields.get(FORM_FIELD, "")):
            return self._page(
                request,
                "message.html",
                403,
                text="The form was too old, or another site sent it. Nothing was done.",
                code="form-not-ours",
            )
        if table.take(cookie, AUDIENCE) is None or fields.get("decline"):
            return self._again(request)
        return await self._go_on(request, cookie, entry, fields)

    async def _go_on(
        self, request: Request, cookie: Secret, entry: SigningIn, fields: Mapping[str, str]
    ) -> Response:
        table = self._sessions.signing_in
        typed = fields.get("username", "")
        answer = answer_of(entry.prompt, fields)
        if answer.complaint:
            table.put(cookie, entry, entry.prompt)
            return self._prompt(request, entry, typed=typed, error=answer.complaint, status=422)
        step = await entry.conversation.answer(answer.fields)
        if isinstance(step, SignedIn):
            return await self._enter(request, entry, step)
        if isinstance(step, Refused):
            return self._refuse(request, step)
        return self._prompt(request, table.put(cookie, entry, step), typed=typed)

    async def _enter(self, request: Request, entry: SigningIn, step: SignedIn) -> Response:
        """A session with a cookie that nobody has seen before; what the browser had before ends."""
        before = await self._sessions.of_request(request, AUDIENCE)
        agent = request.headers.get("user-agent", "")
        try:
            _, cookie = await self._sessions.start(step.identity, AUDIENCE, user_agent=agent)
        except ProblemError as error:
            sign_ins = self._console.services.sign_ins
            assert sign_ins is not None  # it has made the identity
            return self._refuse(request, await sign_ins.not_opened(step.identity, AUDIENCE, error.problem))
        if before is not None:
            await self._sessions.end(before.id, web_sessions.REPLACED)
        response = RedirectResponse(entry.where or BASE, 303, headers=HEADERS)
        web_sessions.set_cookie(response, AUDIENCE, cookie)
        signing_in.clear_cookie(response, AUDIENCE)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Ends the browser's session; its form carries the session's own token, as every form does."""
        session = await self._sessions.of_request(request, AUDIENCE)
        response: Response = RedirectResponse(f"{SIGN_IN}?again=1", 303, headers=HEADERS)
        if session is None:
            return response
        form = await request.form(max_files=0, max_fields=MAX_FIELDS) if from_our_pages(request) else {}
        if not self._sessions.check_form_token(session.record, str(form.get(FORM_FIELD, ""))):
            return RedirectResponse(BASE, 303, headers=HEADERS)
        await self._sessions.end(session.id, web_sessions.SIGNED_OUT)
        web_sessions.clear_cookie(response, AUDIENCE)
        return response

    # -- pages -------------------------------------------------------------------------------------

    def _prompt(
        self, request: Request, entry: SigningIn, *, typed: str = "", error: str = "", status: int = 200
    ) -> Response:
        page = self._in_force.page(self._policy(request))
        labels = Labels(page.user_label, page.password_label)
        form: PromptForm = form_of(entry.prompt, typed=typed, error=error, labels=labels)
        return self._page(
            request, "sign_in.html", status, form=form, csrf=form_token(entry.csrf), action=_action(request)
        )

    def not_allowed(self, request: Request, error: NotAllowedError) -> Response:
        """A page for somebody who is signed in and may not, without a menu."""
        return self._page(
            request,
            "message.html",
            error.status,
            text=f"{error.problem.summary} {error.problem.fix}",
            code=error.problem.code,
            again=BASE,
        )

    def _refuse(self, request: Request, step: Refused | SignedIn) -> Response:
        refused = step if isinstance(step, Refused) else Refused("sign-in-failed", "Sign in again.")
        response = self._page(
            request,
            "message.html",
            403,
            text=refused.text,
            code=refused.code,
            reasons=refused.reasons,
            support=refused.support,
        )
        signing_in.clear_cookie(response, AUDIENCE)
        return response

    def _page(self, request: Request, template: str, status: int, **values: Any) -> Response:
        page = self._in_force.page(self._policy(request))
        tree = self._in_force.tree
        chosen = request.cookies.get(THEME_COOKIE, "")
        text = self._console.environment.get_template(template).render(
            {
                "page": page,
                "node": tree.cluster.node_name or tree.gateway.hostname,
                "theme": chosen if chosen in THEMES else "auto",
                "again": _action(request, again=True),
                "reasons": (),
                "support": "",
                **values,
            }
        )
        return HTMLResponse(text, status_code=status, headers=HEADERS)

    def _again(self, request: Request) -> Response:
        response = RedirectResponse(_action(request), 303, headers=HEADERS)
        signing_in.clear_cookie(response, AUDIENCE)
        return response

    # -- the policy --------------------------------------------------------------------------------

    def _policy(self, request: Request) -> SignInPolicy | None:
        sign_ins = self._console.services.sign_ins
        if sign_ins is None:
            return None
        return sign_ins.policy(_request_of(request, None))

    async def _asked(self, request: Request) -> SignInRequest:
        peer = Peer.of(request)
        certificate = await self._authorities.judge(peer.certificates, peer.address)
        return _request_of(request, certificate)


def _request_of(request: Request, certificate: Any) -> SignInRequest:
    path = request.url.path
    if path == SIGN_IN:
        path = BASE
    agent = printable(request.headers.get("user-agent", ""), 256)
    client = ClientFacts(source=Peer.of(request).address, user_agent=agent, host_name="")
    return SignInRequest(
        "administrators", request.headers.get("host", ""), path, client, certificate, AUDIENCE
    )


def _way_back(request: Request) -> str:
    """Where the browser goes after signing in: a page of ours, whatever the address says."""
    to = request.query_params.get("to", "")
    return to if page_of_ours(to) and not to.startswith(SIGN_IN) else BASE


def _action(request: Request, *, again: bool = False) -> str:
    path = request.url.path
    return f"{quote(path)}?again=1" if again else quote(path)


def routes(sign_in: ConsoleSignIn) -> list[BaseRoute]:
    """The console's own sign-in."""
    return [
        GuardedRoute(SIGN_IN, sign_in.show, needs=PUBLIC, body=0),
        GuardedRoute(SIGN_IN, sign_in.answer, needs=PUBLIC, methods=("POST",), body=FORM_BODY),
        GuardedRoute(BASE + "sign-out", sign_in.sign_out, needs=PUBLIC, methods=("POST",), body=FORM_BODY),
    ]


def other_routes(sign_in: ConsoleSignIn) -> list[BaseRoute]:
    """Sign-in at whatever URL a policy of administrators names; the last of all routes."""
    return [
        GuardedRoute("/{path:path}", sign_in.elsewhere, needs=PUBLIC, methods=("GET", "POST"), body=FORM_BODY)
    ]
