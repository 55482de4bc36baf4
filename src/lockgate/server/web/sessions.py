"""Sessions of browsers: console and portal.

A cookie is 32 random bytes that name a record in the store, which has only their hash. Every request is
judged anew: the record is live, its length and idle time are not over, and the policy in force still
lets its user in from where the request comes, with at least one role. What fails one of these ends there and
then, and takes along the tunnels that it started.

Conversations that are not signed in yet are in `signing_in`; their cookie is another one and is never a
session's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.responses import Response

from lockgate.model.facts import SignInFacts
from lockgate.model.identity import Identity
from lockgate.model.policy import Audience
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.prompt import Refused
from lockgate.model.session import EndCause
from lockgate.model.text import printable
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.in_force import InForce, admit
from lockgate.server.sessions import NOT_EXTENDABLE, OVER, counted_anew
from lockgate.server.store.records import AuditEntry, WebAudience, WebSessionRecord
from lockgate.server.web.cookies import cookie_values
from lockgate.server.web.peer import Peer
from lockgate.server.web.signing_in import SigningIns

if TYPE_CHECKING:
    from lockgate.server.store.interface import Store

COOKIES: dict[WebAudience, str] = {"console": "__Host-lockgate-console", "portal": "__Host-lockgate"}
FORM_FIELD = "csrf"
"""Hidden field of every form; scripts send the same text as the header FORM_HEADER."""
FORM_HEADER = "x-csrf-token"

COOKIE_BYTES = 32
MAX_PER_USER = 20  # browsers of one user of one audience; beyond that the one used longest ago ends
MAX_SEEN = 20_000  # times of use that wait to be written
REMEMBERED = 5.0  # seconds for which a decision about a session is not made again under the same policy
MAX_REMEMBERED = 10_000

# Causes of an end, beside those of tunnels.
SIGNED_OUT, IDLE, EXPIRED, POLICY_CHANGED, REPLACED, DISCONNECTED = (
    "logout",
    "idle",
    "expired",
    "policy-changed",
    "replaced",
    "disconnected",
)

_Admitted = tuple[object, float, tuple[str, ...], SignInFacts | None]
"""Policy, time, roles, and the facts that they were made from."""

_AUDIENCES: dict[WebAudience, Audience] = {"console": "administrators", "portal": "users"}


@dataclass(frozen=True, slots=True)
class LiveWebSession:
    """A session that may do something now. roles: as the policy in force gives them for this request."""

    record: WebSessionRecord
    roles: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def user(self) -> str:
        return self.record.user


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a session may be; seconds, idle 0 is never."""

    length: int
    idle: int


class WebSessions:
    """One per control plane."""

    def __init__(
        self,
        store: Store,
        in_force: InForce,
        audit: Audit,
        clock: Callable[[], float] = time.time,
        *,
        end_tunnel: Callable[[int, EndCause], Awaitable[object]] | None = None,
    ) -> None:
        """end_tunnel: ends a tunnel's session everywhere (`GatewayService.end`)."""
        self._store, self._in_force, self._audit, self._clock = store, in_force, audit, clock
        self.end_tunnel = end_tunnel
        self.signing_in = SigningIns(clock)
        self._seen: dict[str, float] = {}
        self._admitted: OrderedDict[tuple[str, str], _Admitted] = OrderedDict()

    # -- beginning and end -------------------------------------------------------------------------

    async def start(
        self, identity: Identity, audience: WebAudience, *, user_agent: str
    ) -> tuple[WebSessionRecord, Secret]:
        """A new session of somebody who has just signed in, and its cookie.

        Raises ProblemError "sign-in-again" when the account was changed meanwhile, UsageError never.
        """
        if identity.audience != _AUDIENCES[audience]:
            raise ProblemError(_AGAIN)
        now = self._clock()
        terms = self._terms(audience, identity.realm, identity.roles)
        if terms is None:
            raise ProblemError(_AGAIN)
        cookie = Secret(secrets.token_bytes(COOKIE_BYTES))
        record = WebSessionRecord(
            id=secrets.token_hex(16),
            cookie_hash=_hash(cookie),
            csrf=secrets.token_bytes(32),
            audience=audience,
            user=identity.user,
            server=identity.server,
            realm=identity.realm,
            roles=identity.roles,
            serial=identity.serial,
            facts=identity.facts,
            source=identity.source,
            user_agent=printable(user_agent, 256),
            started=now,
            expires=now + terms.length,
            idle_seconds=terms.idle,
            last_seen=now,
        )
        if not await self._store.web_sessions.add(record, MAX_PER_USER):
            await self._make_room(record)
            if not await self._store.web_sessions.add(record, MAX_PER_USER):
                raise ProblemError(_AGAIN)
        await self._audit.record(
            "web-session-open",
            ok=True,
            user=record.user,
            source=record.source,
            text=f"{audience} {record.realm}: {', '.join(record.roles)}",
            log="admin" if audience == "console" else "user",
            revision=identity.revision,
        )
        return record, Secret.of_text(_text(cookie))

    async def _make_room(self, record: WebSessionRecord) -> None:
        live = await self._store.web_sessions.live(record.audience, record.user, record.server)
        if len(live) >= MAX_PER_USER:
            oldest = min(live, key=lambda each: self._last_seen(each))
            await self.end(oldest.id, REPLACED)

    async def end(self, session: str, cause: str) -> bool:
        """Ends a session and the tunnels it started; False when there is none to end."""
        record = await self._store.web_sessions.find(session)
        self._seen.pop(session, None)
        if record is None or not await self._store.web_sessions.end(session, cause, self._clock()):
            return False
        await self._audit.record(
            "web-session-end",
            ok=True,
            reason=cause,
            user=record.user,
            source=record.source,
            text=record.audience,
            log="admin" if record.audience == "console" else "user",
        )
        await self._end_tunnels(session)
        return True

    async def extend(
        self, session: str, *, source: str, actor: str = "", roles: tuple[str, ...] | None = None
    ) -> WebSessionRecord | Refused:
        """Counts the length of a portal session from now on, as `Sessions.extend` does for tunnels.

        roles: those of the request, of whoever extends the session that it belongs to; without them it is
               decided again from where the session began.
        """
        record, now = await self._store.web_sessions.find(session), self._clock()
        if record is None or record.audience != "portal":
            return OVER
        roles = self.roles_of(record) if roles is None else roles
        revision = self._in_force.revision
        options = self._in_force.rights(roles).effective.session

        def note(record: WebSessionRecord, refused: Refused | None = None) -> AuditEntry:
            return self._audit.entry(
                "web-session-extend",
                ok=refused is None,
                reason="" if refused is None else refused.code,
                user=record.user,
                source=source,
                text="" if refused else f"ends in {int(record.expires - now)} seconds",
                log="user",
                actor=actor,
                revision=revision,
            )

        anew = counted_anew(options, record.started, record.counted_from, now, by_user=not actor)
        if not roles or anew is None:
            refused = NOT_EXTENDABLE
        elif now >= record.counted_from + options.length_seconds:
            refused = OVER  # by a length that the policy has got since it began
        else:
            until = anew + options.length_seconds
            extended = await self._store.web_sessions.extend(session, now, anew, until, note)
            if extended is not None:
                self._audit.log(note(extended))
                return extended
            refused = OVER
        await self._audit.write(note(record, refused))
        return refused

    def may_extend(self, record: WebSessionRecord, roles: tuple[str, ...]) -> bool:
        """Whether its user, who has these roles now, may extend a portal session."""
        options, now = self._in_force.rights(roles).effective.session, self._clock()
        return counted_anew(options, record.started, record.counted_from, now, by_user=True) is not None

    def roles_of(self, record: WebSessionRecord) -> tuple[str, ...]:
        """The roles that the user of a session has now, from where and with what it was begun."""
        return self._roles(record, record.source, record.user_agent, self._clock())

    async def _end_tunnels(self, session: str) -> None:
        if self.end_tunnel is not None:
            for child in await self._store.sessions.of_parent(session):
                await self.end_tunnel(child.id, EndCause.PORTAL_ENDED)

    async def end_due(self) -> None:
        """Ends what is over, on its own clock. Call it every second or so."""
        now = self._clock()
        for record in await self._store.web_sessions.due(now):
            if now >= record.expires:
                await self.end(record.id, EXPIRED)
            elif self._idle_until(record, record.idle_seconds) <= now:
                if await self._store.sessions.of_parent(record.id):
                    # Who uses the tunnel that this browser started is not idle.
                    self._note_seen(record.id, now)
                else:
                    await self.end(record.id, IDLE)
        await self.flush()

    async def flush(self) -> None:
        """Writes down when sessions were used last."""
        if self._seen:
            seen, self._seen = self._seen, {}
            await self._store.web_sessions.touch(seen)

    async def user_changed(
        self, audience: WebAudience, user: str, facts: Callable[[SignInFacts], SignInFacts]
    ) -> None:
        """Somebody's groups or attributes are others; the next request is judged by them.

        facts: puts them into what is known.
        """
        for record in await self._store.web_sessions.live(audience, user):
            if record.facts is None:
                continue
            # A server may have got another name since the sign-in; the record followed it.
            fresh = facts(replace(record.facts, server=record.server))
            if fresh != record.facts:
                await self._store.web_sessions.update_facts(record.id, fresh)

    # -- at every request --------------------------------------------------------------------------

    async def of_request(self, request: HTTPConnection, audience: WebAudience) -> LiveWebSession | None:
        """The session whose cookie the request has."""
        values = cookie_values(request, COOKIES[audience])
        if len(values) != 1:
            return None  # none, or a second one that somebody else planted
        peer = Peer.of(request)
        return await self.by_cookie(
            Secret.of_text(values[0]),
            audience,
            source=peer.address,
            user_agent=request.headers.get("user-agent", ""),
        )

    async def by_cookie(
        self, cookie: Secret, audience: WebAudience, *, source: str, user_agent: str
    ) -> LiveWebSession | None:
        """The live session of a cookie, judged for a request that comes from there with that."""
        raw = _bytes(cookie)
        record = None if raw is None else await self._store.web_sessions.by_cookie(_hash(raw))
        if record is None or record.audience != audience or record.ended is not None:
            return None
        now = self._clock()
        roles = self._roles(record, source, printable(user_agent, 256), now)
        terms = self._terms(audience, record.realm, roles) if roles else None
        if terms is None:
            await self.end(record.id, POLICY_CHANGED)
            return None
        if now >= min(record.expires, record.counted_from + terms.length):
            await self.end(record.id, EXPIRED)
            return None
        if self._idle_until(record, terms.idle) <= now and not await self._store.sessions.of_parent(
            record.id
        ):
            await self.end(record.id, IDLE)
            return None
        self._note_seen(record.id, now)
        return LiveWebSession(record, roles)

    def _roles(self, record: WebSessionRecord, source: str, user_agent: str, now: float) -> tuple[str, ...]:
        """The roles of the session's user now and from there; empty for no admission."""
        policy, key = self._in_force.policy, (record.id, f"{source} {user_agent}")
        known = self._admitted.get(key)
        if (
            known is not None
            and known[0] is policy
            and 0 <= now - known[1] < REMEMBERED
            and known[3] == record.facts
        ):
            return known[2]
        roles: tuple[str, ...] = ()
        if record.facts is not None:
            facts = replace(record.facts, source=source, user_agent=user_agent)
            _, decision = admit(policy, _AUDIENCES[record.audience], facts, now, record.roles)
            roles = decision.roles if decision is not None else ()
        self._admitted[key] = (policy, now, roles, record.facts)
        self._admitted.move_to_end(key)
        if len(self._admitted) > MAX_REMEMBERED:
            self._admitted.popitem(last=False)
        return roles

    def _terms(self, audience: WebAudience, realm: str, roles: tuple[str, ...]) -> Terms | None:
        """None when there is no such realm any more."""
        if audience == "portal":
            session = self._in_force.rights(roles).effective.session
            return Terms(session.length_seconds, session.idle_seconds)
        found = next((each for each in self._in_force.tree.admin_realms if each.name == realm), None)
        return None if found is None else Terms(found.session_seconds, found.idle_seconds)

    def _last_seen(self, record: WebSessionRecord) -> float:
        return max(record.last_seen, self._seen.get(record.id, 0.0))

    def _idle_until(self, record: WebSessionRecord, idle: int) -> float:
        return self._last_seen(record) + idle if idle else float("inf")

    def _note_seen(self, session: str, now: float) -> None:
        if len(self._seen) < MAX_SEEN or session in self._seen:
            self._seen[session] = now

    # -- anti-forgery ------------------------------------------------------------------------------

    @staticmethod
    def form_token(record: WebSessionRecord) -> str:
        """What the hidden field FORM_FIELD of this session's forms holds."""
        return form_token(record.csrf)

    @staticmethod
    def check_form_token(record: WebSessionRecord, given: str) -> bool:
        return check_form_token(record.csrf, given)


def form_token(key: bytes) -> str:
    """The anti-forgery text of a session or of a conversation. key: its 32 bytes."""
    return base64.urlsafe_b64encode(hmac.digest(key, b"form", "sha256")).decode().rstrip("=")


def check_form_token(key: bytes, given: str) -> bool:
    return hmac.compare_digest(form_token(key).encode(), given.encode(errors="replace"))


def set_cookie(response: Response, audience: WebAudience, cookie: Secret) -> None:
    """Gives the browser its session's cookie, until it is closed."""
    response.set_cookie(
        COOKIES[audience],
        cookie.reveal_text(),
        path="/",
        secure=True,
        httponly=True,
        samesite="strict" if audience == "console" else "lax",
    )


def clear_cookie(response: Response, audience: WebAudience) -> None:
    response.delete_cookie(
        COOKIES[audience],
        path="/",
        secure=True,
        httponly=True,
        samesite="strict" if audience == "console" else "lax",
    )


_AGAIN = Problem("sign-in-again", "The account or the configuration has just been changed.", "Sign in again.")


def _text(cookie: Secret) -> str:
    return base64.urlsafe_b64encode(cookie.reveal()).decode().rstrip("=")


def _bytes(cookie: Secret) -> Secret | None:
    """None for what is not the one text of 32 bytes."""
    try:
        text = cookie.reveal_text()
        raw = Secret(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return None
    fits = len(raw.reveal()) == COOKIE_BYTES and hmac.compare_digest(_text(raw).encode(), text.encode())
    return raw if fits else None


def _hash(cookie: Secret) -> bytes:
    return hashlib.sha256(cookie.reveal()).digest()
