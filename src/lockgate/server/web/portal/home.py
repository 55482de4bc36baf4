"""What somebody who is signed in to the portal sees and can do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from lockgate.model.problem import ProblemError
from lockgate.model.prompt import NewPassword, Refused
from lockgate.model.session import EndCause, Session
from lockgate.protocol.errors import UsageError
from lockgate.protocol.launch_url import MAX_NAME, LaunchUrl, format_launch_url
from lockgate.protocol.preconfig import serialize
from lockgate.protocol.secret import Secret
from lockgate.server.auth.service import SignIns
from lockgate.server.config import defaults
from lockgate.server.in_force import InForce
from lockgate.server.installer_configuration import file_name, installer_configuration
from lockgate.server.launch_handles import LaunchHandles
from lockgate.server.sessions import OVER, Sessions, session_number
from lockgate.server.store.interface import WebSessionRecord
from lockgate.server.store.interface import WebSessions as WebSessionRecords
from lockgate.server.user_records import UserRecords
from lockgate.server.web import sessions as web_sessions
from lockgate.server.web.downloads import attachment
from lockgate.server.web.forms.prompts import form_of, new_password
from lockgate.server.web.portal.pages import Pages, denied, headers
from lockgate.server.web.portal.requests import client_of, read_form, url_of
from lockgate.server.web.portal.session_rows import Row, browser_row, tunnel_row
from lockgate.server.web.portal.sign_in import AUDIENCE, SignInPages
from lockgate.server.web.sessions import LiveWebSession, WebSessions

MAX_LAUNCHED = 10_000  # sessions remembered to have launched the client by itself

# What a form has done, in sentences.
_DONE = {
    "password": "Your password was changed. Your other sessions have ended.",
    "preferences": "Your preferences are saved.",
    "extended": "Your session was extended. The Lockgate client knows at once; another one may show the former "
    "time until it connects again.",
}
_NOT_DONE = {
    "not-extended": "Your session was not extended: it has ended, or it may not be extended any more."
}

ExtendTunnel = Callable[..., Awaitable[Session | Refused]]
"""`web.extend.extend_tunnel` of the services."""


class HomePages:
    """Everything behind the sign-in. Each method gets the live session of the request; that a page of ours sent
    what it acts on, its route has made sure of."""

    def __init__(
        self,
        *,
        pages: Pages,
        entrance: SignInPages,
        in_force: InForce,
        sign_ins: SignIns,
        sessions: Sessions,
        web: WebSessions,
        records: WebSessionRecords,
        kept: UserRecords,
        launches: LaunchHandles | None,
        end_tunnel: Callable[[int, EndCause], Awaitable[object]] | None,
        extend_tunnel: ExtendTunnel | None,
        clock: Callable[[], float],
    ) -> None:
        self._pages, self._entrance, self._in_force = pages, entrance, in_force
        self._sign_ins, self._sessions, self._web, self._records = sign_ins, sessions, web, records
        self._launches, self._end_tunnel, self._clock = launches, end_tunnel, clock
        self._extend_tunnel, self._kept = extend_tunnel, kept
        self._launched: OrderedDict[str, None] = OrderedDict()

    # -- pages -------------------------------------------------------------------------------------

    async def home(self, request: Request, live: LiveWebSession, path: str) -> Response:
        """The home page, at the URL of a sign-in policy."""
        record, rights = live.record, self._in_force.rights(live.roles).effective
        may_start = rights.vpn and rights.ui.show_client and self._launches is not None
        url = url_of(request, path)
        rows = await self._rows(live) if rights.ui.show_sessions else []
        done = request.query_params.get("done", "")
        return self._pages.page(
            "home",
            **await self.shell(record, path),
            title=rights.ui.title or "Home",
            heading=rights.ui.title or f"Hello, {record.user}",
            greeting=rights.ui.greeting,
            notice=_DONE.get(done, ""),
            complaint=_NOT_DONE.get(done, ""),
            show_client=may_start and url is not None,
            auto_launch=may_start and rights.vpn_options.auto_launch and self._first_time(record.id),
            server=str(url or ""),
            bookmarks=rights.bookmarks,
            may_bookmark=rights.own_bookmarks,
            show_sessions=rights.ui.show_sessions,
            sessions=rows,
            realm=record.realm,
            roles=live.roles,
            groups=record.facts.groups if record.facts is not None else (),
            source=client_of(request).source,
            started=record.started,
            expires=record.expires,
            extend_own=f"web:{record.id}" if self._web.may_extend(record, live.roles) else "",
            ends_soon=self._ends_soon(live.roles, record.expires),
            others_end_soon=any(row.ends_soon and row.end for row in rows),
            others_extend=any(row.extend and row.end for row in rows),
        )

    async def start(self, request: Request, live: LiveWebSession, _: str) -> Response:
        """A fresh link for the client, to be used within a minute."""
        form = await read_form(request)
        path = "" if form is None else form.get("at", "")
        policy = None if form is None else self._entrance.policy(request, path)
        url = url_of(request, path)
        rights = self._in_force.rights(live.roles).effective
        if form is None or policy is None or url is None or live.record.realm not in policy.realms:
            return denied(400, "start-not-possible")
        if not (rights.vpn and rights.ui.show_client) or self._launches is None:
            return denied(403, "no-vpn")
        handle = await self._launches.make(live.record, url)
        try:
            link = format_launch_url(LaunchUrl(url.authority[:MAX_NAME], url, handle=handle))
        except UsageError:
            return denied(400, "start-not-possible")
        return JSONResponse({"link": link}, headers=headers())

    async def configuration(self, request: Request, live: LiveWebSession, _: str) -> Response:
        """The connections of the user's component set, for a client that was just installed."""
        rights = self._in_force.rights(live.roles).effective
        if not rights.vpn:
            return denied(403, "no-vpn")
        name = rights.vpn_options.component_set or defaults.SET
        url = url_of(request, "/")
        try:
            document = installer_configuration(self._in_force.tree, name, server=str(url or ""))
        except ProblemError:
            return denied(404, "no-configuration")
        kept = headers() | {"Content-Disposition": attachment(file_name(name))}
        return Response(serialize(document), media_type="application/octet-stream", headers=kept)

    async def end_session(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """Ends one of the user's own sessions, a tunnel's or another browser's."""
        form = await read_form(request)
        if form is None:
            return denied(400, "form-not-ours")
        kind, _, number = form.get("session", "").partition(":")
        tunnel = session_number(number) if kind == "tunnel" else None
        if tunnel is not None and self._end_tunnel is not None:
            session = await self._sessions.find(tunnel)
            if session is not None and _same_user(session, live.record):
                await self._end_tunnel(session.id, EndCause.LOGOUT)
        elif kind == "web":
            other = await self._records.find(number)
            if other is not None and other.audience == AUDIENCE and _same_user(other, live.record):
                await self._web.end(other.id, web_sessions.SIGNED_OUT)
        return RedirectResponse(home, 303, headers=headers())

    async def extend_session(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """Extends one of the user's own sessions, a tunnel's or a browser's."""
        form = await read_form(request)
        if form is None:
            return denied(400, "form-not-ours")
        kind, _, number = form.get("session", "").partition(":")
        source = client_of(request).source
        result: Session | WebSessionRecord | Refused = OVER
        tunnel = session_number(number) if kind == "tunnel" else None
        if tunnel is not None and self._extend_tunnel is not None:
            session = await self._sessions.find(tunnel)
            if session is not None and _same_user(session, live.record):
                result = await self._extend_tunnel(session.id, source=source)
        elif kind == "web":
            roles = live.roles if number == live.id else None
            other = await self._records.find(number)
            if other is not None and _same_user(other, live.record):
                result = await self._web.extend(other.id, source=source, roles=roles)
        done = "not-extended" if isinstance(result, Refused) else "extended"
        return RedirectResponse(f"{home}?done={done}", 303, headers=headers())

    async def password(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """The form to change the password."""
        return await self._password_form(live, home, "")

    async def change_password(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """Changes the password; every other session of the user ends."""
        form = await read_form(request)
        if form is None:
            return denied(400, "form-not-ours")
        answer = new_password(form)
        old, new = answer.fields.get("old"), answer.fields.get("new")
        if answer.complaint or not isinstance(old, Secret) or not isinstance(new, Secret):
            return await self._password_form(live, home, answer.complaint)
        record = live.record
        source = client_of(request).source
        try:
            await self._sign_ins.change_password(record.server, record.user, old, new, source, keep=record.id)
        except ProblemError as error:
            return await self._password_form(live, home, error.problem.summary)
        return RedirectResponse(f"{home}?done=password", 303, headers=headers())

    async def sign_out(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """Ends the session and the tunnels that it started."""
        await self._web.end(live.id, web_sessions.SIGNED_OUT)
        response = await self._pages.message(
            self._entrance.page(self._entrance.policy(request, home)),
            "signed-out",
            heading="You are signed out",
            text="Connections that you started from this browser have ended too.",
            again=home,
        )
        web_sessions.clear_cookie(response, AUDIENCE)
        return response

    # -- inner workings ----------------------------------------------------------------------------

    async def shell(self, record: WebSessionRecord, home: str) -> dict[str, Any]:
        """`pages.Shell`."""
        driver = self._sign_ins.driver(record.server)
        kept = await self._kept.get(record.server, record.user)
        return {
            "home": home,
            "user": record.user,
            "token": self._web.form_token(record),
            "may_change_password": driver.may_change,
            "chosen": dict(kept.preferences),
            "own_bookmarks": kept.bookmarks,
        }

    async def _password_form(self, live: LiveWebSession, home: str, error: str) -> Response:
        form = form_of(NewPassword(""), error=error)
        shell = await self.shell(live.record, home)
        status = 422 if error else 200
        return self._pages.page("password", status=status, **shell, title="Change password", form=form)

    def _first_time(self, session: str) -> bool:
        """Whether the client was not launched by itself for this sign-in yet."""
        if session in self._launched:
            return False
        self._launched[session] = None
        if len(self._launched) > MAX_LAUNCHED:
            self._launched.popitem(last=False)
        return True

    async def _rows(self, live: LiveWebSession) -> list[Row]:
        record = live.record
        tunnels = await self._sessions.live(record.user, record.server)
        browsers = await self._records.live(AUDIENCE, record.user, record.server)
        ends = {each.id: each.expires for each in browsers}
        rows = []
        for tunnel in tunnels:
            row = tunnel_row(tunnel, extend=self._sessions.may_extend(tunnel))
            # It ends with the browser that started it.
            expires = min(row.expires, ends.get(tunnel.parent or "", row.expires))
            rows.append((replace(row, expires=expires), tunnel.roles))
        for browser in browsers:
            own = browser.id == record.id
            roles = live.roles if own else self._web.roles_of(browser)
            may_extend = self._web.may_extend(browser, roles)
            rows.append((browser_row(browser, own=own, extend=may_extend), browser.roles))
        return [replace(row, ends_soon=self._ends_soon(roles, row.expires)) for row, roles in rows]

    def _ends_soon(self, roles: tuple[str, ...], expires: float) -> bool:
        before = self._in_force.rights(roles).effective.session.reminder_seconds
        return before > 0 and self._clock() >= expires - before


def _same_user(session: Session | WebSessionRecord, record: WebSessionRecord) -> bool:
    return (session.server, session.user) == (record.server, record.user)
