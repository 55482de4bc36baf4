"""Sign-in conversations as pages: one prompt, one form, until there is a session or a no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lockgate.model.policy import SignInPolicy
from lockgate.model.problem import ProblemError
from lockgate.model.prompt import Outcome, Prompt, Refused, SignedIn
from lockgate.protocol.secret import Secret
from lockgate.server.auth.certificates import Authorities
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.service import SignIns
from lockgate.server.config.tree.authentication import SignInPage
from lockgate.server.in_force import InForce
from lockgate.server.web import sessions as web_sessions
from lockgate.server.web import signing_in
from lockgate.server.web.access import from_our_pages
from lockgate.server.web.forms.prompts import Labels, answer_of, form_of
from lockgate.server.web.peer import Peer
from lockgate.server.web.portal.pages import Pages
from lockgate.server.web.portal.requests import client_of, read_form
from lockgate.server.web.sessions import FORM_FIELD, WebSessions, check_form_token, form_token
from lockgate.server.web.signing_in import SigningIn

AUDIENCE: Final = "portal"


class SignInPages:
    """Answers at the URLs of sign-in policies, to browsers that have no session yet."""

    def __init__(
        self,
        pages: Pages,
        sign_ins: SignIns,
        sessions: WebSessions,
        in_force: InForce,
        authorities: Authorities,
    ) -> None:
        self._pages, self._sign_ins, self._sessions = pages, sign_ins, sessions
        self._in_force, self._authorities = in_force, authorities

    def policy(self, request: Request, path: str) -> SignInPolicy | None:
        """The sign-in policy of users whose URL that is, exactly."""
        wanted = SignInRequest(
            "users", request.headers.get("host", ""), path, client_of(request), None, AUDIENCE
        )
        found = self._sign_ins.policy(wanted)
        return found if found is not None and found.path == path else None

    def page(self, policy: SignInPolicy | None) -> SignInPage:
        """How sign-in looks there."""
        return self._in_force.page(policy)

    async def show(self, request: Request, policy: SignInPolicy) -> Response:
        """The prompt that waits for this browser's answer, or the first one of a new sign-in."""
        cookie = signing_in.cookie_of(request, AUDIENCE)
        entry = None if cookie is None else self._sessions.signing_in.look(cookie, AUDIENCE)
        if entry is not None and entry.where == policy.path:
            return await self._prompt(policy, entry)
        conversation = self._sign_ins.conversation(await self._request(request, policy))
        step = await conversation.start()
        if isinstance(step, Refused | SignedIn):
            return await self._refuse(policy, step)
        cookie, entry = self._sessions.signing_in.begin(
            AUDIENCE, Peer.of(request).address, conversation, step, policy.path
        )
        response = await self._prompt(policy, entry)
        signing_in.set_cookie(response, AUDIENCE, cookie)
        return response

    async def answer(self, request: Request, policy: SignInPolicy) -> Response:
        """Takes what was typed into the form of the last prompt."""
        form = await read_form(request) if from_our_pages(request) else None
        if form is None:
            return await self._not_from_here(policy)
        cookie = signing_in.cookie_of(request, AUDIENCE)
        table = self._sessions.signing_in
        entry = None if cookie is None else table.look(cookie, AUDIENCE)
        if cookie is None or entry is None or entry.where != policy.path:
            return self._again(policy)  # it took too long, or the server was started again
        if not check_form_token(entry.csrf, form.get(FORM_FIELD, "")):
            return await self._not_from_here(policy)
        if table.take(cookie, AUDIENCE) is None:
            return self._again(policy)
        if form.get("decline"):
            return self._again(policy)
        return await self._go_on(request, policy, cookie, entry, form)

    async def _go_on(
        self,
        request: Request,
        policy: SignInPolicy,
        cookie: Secret,
        entry: SigningIn,
        form: Mapping[str, str],
    ) -> Response:
        table = self._sessions.signing_in
        typed = form.get("username", "")
        answer = answer_of(entry.prompt, form)
        if answer.complaint:
            table.put(cookie, entry, entry.prompt)
            return await self._prompt(policy, entry, typed=typed, error=answer.complaint)
        step = await entry.conversation.answer(answer.fields)
        if isinstance(step, SignedIn):
            return await self._enter(request, policy, step)
        if isinstance(step, Refused):
            return await self._refuse(policy, step)
        return await self._prompt(policy, table.put(cookie, entry, step), typed=typed)

    async def _enter(self, request: Request, policy: SignInPolicy, step: SignedIn) -> Response:
        """A session with a cookie that nobody has seen before; what the browser had before ends."""
        before = await self._sessions.of_request(request, AUDIENCE)
        agent = request.headers.get("user-agent", "")
        try:
            _, cookie = await self._sessions.start(step.identity, AUDIENCE, user_agent=agent)
        except ProblemError as error:
            refused = await self._sign_ins.not_opened(step.identity, AUDIENCE, error.problem)
            return await self._refuse(policy, refused)
        if before is not None:
            await self._sessions.end(before.id, web_sessions.REPLACED)
        response = RedirectResponse(policy.path, 303)
        web_sessions.set_cookie(response, AUDIENCE, cookie)
        signing_in.clear_cookie(response, AUDIENCE)
        return response

    async def _prompt(
        self, policy: SignInPolicy, entry: SigningIn, *, typed: str = "", error: str = ""
    ) -> Response:
        page = self.page(policy)
        prompt: Prompt = entry.prompt
        form = form_of(prompt, typed=typed, error=error, labels=Labels(page.user_label, page.password_label))
        return await self._pages.form(page, form, action=policy.path, token=form_token(entry.csrf))

    async def _refuse(self, policy: SignInPolicy, step: Outcome) -> Response:
        refused = step if isinstance(step, Refused) else Refused("sign-in-failed", "Sign in again.")
        response = await self._pages.message(
            self.page(policy),
            "refused",
            heading="You are not signed in",
            text=refused.text,
            again=policy.path,
            again_text="Try again",
            code=refused.code,
            refused=refused,
            status=403,
        )
        signing_in.clear_cookie(response, AUDIENCE)
        return response

    async def _not_from_here(self, policy: SignInPolicy) -> Response:
        return await self.not_from_here(policy, policy.path)

    async def not_from_here(self, policy: SignInPolicy | None, again: str) -> Response:
        """A form that no page of this session sent."""
        return await self._pages.message(
            self.page(policy),
            "refused",
            heading="That did not come from this page",
            text="The form was too old, or another site sent it. Nothing was done.",
            again=again,
            again_text="Go on here",
            code="form-not-ours",
            status=403,
        )

    @staticmethod
    def _again(policy: SignInPolicy) -> Response:
        response = RedirectResponse(policy.path, 303)
        signing_in.clear_cookie(response, AUDIENCE)
        return response

    async def _request(self, request: Request, policy: SignInPolicy) -> SignInRequest:
        client, peer = client_of(request), Peer.of(request)
        certificate = await self._authorities.judge(peer.certificates, peer.address)
        host = request.headers.get("host", "")
        return SignInRequest("users", host, policy.path, client, certificate, AUDIENCE)
