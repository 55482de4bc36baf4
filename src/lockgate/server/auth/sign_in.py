"""The sign-in conversation: from a URL to an identity with roles.

    start ─▶ [Notice] ─▶ [RealmChoice] ─▶ Credentials ──right──▶ [NewPassword] ─▶ [RoleChoice]
                                            ▲    │                     ─▶ [SessionChoice] ─▶ [Notice] ─▶ SignedIn
                                            └─wrong, up to `attempts`──▶ Refused

Its parts are conversations too, one after the other: `credentials`, `new_password`, `roles`, `room`. Each ends
with what the next one begins with, or with a refusal. An exception is a no: nothing makes an Identity but the
last line of `SignIn._seal` and, for who has signed in to the portal, that of `go_on`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lockgate.model.decision import Reason, said
from lockgate.model.identity import seal_identity
from lockgate.model.prompt import Notice, Prompt, Refused, SignedIn, Step
from lockgate.policy import sign_in as urls
from lockgate.protocol.errors import UsageError
from lockgate.server.audit import with_code
from lockgate.server.auth.attempt import Attempt, Granted, Person, Shared, decisive
from lockgate.server.auth.credentials import AskCredentials
from lockgate.server.auth.new_password import AskNewPassword
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.roles import NO_ROLE, NO_TUNNEL, NO_VPN, AskRoles
from lockgate.server.auth.room import AskRoom
from lockgate.server.in_force import admit
from lockgate.server.sessions.service import OUTDATED
from lockgate.server.store.interface import AuditEntry, WebSessionRecord

NOT_HERE = Refused("no-sign-in-here", "Sign-in is not possible at this address.")


@dataclass(frozen=True, slots=True)
class _NotStarted:
    pass


@dataclass(frozen=True, slots=True)
class _ShowingNotice:
    credentials: AskCredentials


@dataclass(frozen=True, slots=True)
class _ShowingLastNotice:
    granted: Granted


@dataclass(frozen=True, slots=True)
class _Over:
    pass


_Part = AskCredentials | AskNewPassword | AskRoles | AskRoom
_State = _NotStarted | _ShowingNotice | _Part | _ShowingLastNotice | _Over


class SignIn:
    """One person's conversation (`model.prompt.Conversation`).

    opens_session: the caller writes the line about its success, `unwritten`, together with the session that
    it opens at once, so that both are one transaction.
    """

    def __init__(self, shared: Shared, request: SignInRequest, *, opens_session: bool = False) -> None:
        # `_seal` looks whether the revision of the first prompt still counts.
        self._attempt = Attempt(shared, request, shared.in_force.policy)
        self._opens_session = opens_session
        self.unwritten: tuple[AuditEntry, ...] = ()
        self._last_notice: str | None = None
        self._asked_more = False  # after the roles were mapped
        self._state: _State = _NotStarted()

    async def start(self) -> Step:
        """The first prompt."""
        if not isinstance(self._state, _NotStarted):
            raise UsageError("a sign-in starts once")
        self._state = _Over()
        request, policy = self._attempt.request, self._attempt.policy
        found = urls.find(policy.sign_in_policies, request.audience, request.host, request.path)
        entry = found.policy
        credentials = None if entry is None else AskCredentials(self._attempt, entry)
        if entry is None or credentials is None or not credentials.realms:
            reasons = found.reasons or (Reason("the sign-in URL has no realm", "sign_in_policies", False),)
            code = await self._attempt.turn_away("", None, NOT_HERE.code, reasons, decisive(found.reasons))
            return replace(NOT_HERE, support=code)
        self._last_notice = policy.notifications.get(entry.post_notification)
        if notice := policy.notifications.get(entry.pre_notification):
            self._state = _ShowingNotice(credentials)
            return Notice(notice)
        return await self._go_on(credentials, await credentials.start())

    async def answer(self, fields: Mapping[str, object]) -> Step:
        """The step after the answer to the last prompt."""
        # Whatever goes wrong on the way, this conversation cannot be asked a second time.
        state, self._state = self._state, _Over()
        self._asked_more |= isinstance(state, AskRoles | AskRoom | _ShowingLastNotice)
        match state:
            case _ShowingNotice(credentials):
                return await self._go_on(credentials, await credentials.start())
            case _ShowingLastNotice(granted):
                return await self._seal(granted)
            case _NotStarted() | _Over():
                raise UsageError("the sign-in waits for no answer")
            case part:
                return await self._go_on(part, await part.answer(fields))

    async def _go_on(self, part: _Part, found: Prompt | Refused | Person | Granted) -> Step:
        """From part to part, until one has a question or says no."""
        while isinstance(found, Person | Granted):
            following = self._after(part, found)
            if following is None:
                assert isinstance(found, Granted)
                return await self._finish(found)
            part, found = following, await following.start()
        if not isinstance(found, Refused):
            self._state = part
        return found

    def _after(self, part: _Part, found: Person | Granted) -> _Part | None:
        """The part that comes after one which has found something out; None after the last."""
        match part, found:
            case AskCredentials(), Person(_, account) if account.must_change:
                return AskNewPassword(self._attempt, found)
            case _, Person():
                return AskRoles(self._attempt, found)
            case AskRoles(), Granted():
                return AskRoom(self._attempt, found)
            case _:
                return None

    async def _finish(self, granted: Granted) -> Step:
        if self._last_notice:
            self._state = _ShowingLastNotice(granted)
            return Notice(self._last_notice)
        return await self._seal(granted)

    async def _seal(self, granted: Granted) -> Step:
        attempt, shared, request = self._attempt, self._attempt.shared, self._attempt.request
        facts, realm = granted.facts, granted.person.realm
        if self._asked_more:
            # A session that begins now would not hear of a group that was lost a moment ago.
            known = await shared.driver(realm.directory).lookup(facts.user)
            facts = replace(
                facts,
                groups=() if known is None else known.groups,
                attributes={} if known is None else known.attributes,
            )
        policy, roles = shared.in_force.policy, granted.roles
        if policy is not attempt.policy or facts != granted.facts:
            # What was decided while the person was typing may no longer be so.
            verdict, decision = admit(policy, request.audience, facts, shared.clock(), granted.chosen)
            if decision is None or not decision.roles:
                return await attempt.refuse(OUTDATED, facts, realm, verdict.reasons)
            roles = decision.roles
            if request.kind == "tunnel" and not shared.in_force.rights(roles).effective.vpn:
                reasons = (*verdict.reasons, NO_TUNNEL)
                return await attempt.refuse(NO_VPN, facts, realm, reasons, roles=roles)
        line = shared.audit.entry(
            "sign-in",
            ok=True,
            user=facts.user,
            source=attempt.source,
            text=f"{realm.name}: {', '.join(roles)}",
            log=attempt.log,
            revision=policy.revision,
        )
        if self._opens_session:
            self.unwritten = (line,)
        else:
            await shared.audit.write(line)
        return SignedIn(
            seal_identity(
                audience=request.audience,
                roles=roles,
                chosen=granted.chosen,
                method="password",
                serial=granted.person.account.serial,
                revision=policy.revision,
                facts=facts,
            )
        )


async def go_on(shared: Shared, web_session: WebSessionRecord, request: SignInRequest) -> SignedIn | Refused:
    """The identity of somebody who signed in to the portal, for a tunnel of the same place.

    Realm and roles are judged anew, for the program that asks. The store refuses the session when the
    account has changed since the portal sign-in.
    """
    known = web_session.facts
    if known is None or web_session.audience != "portal":
        raise UsageError("only a portal session with its facts can go on")
    facts = request.client.seen_in(known, request.certificate)
    policy = shared.in_force.policy
    verdict, decision = admit(policy, "users", facts, shared.clock(), web_session.roles)
    roles = () if decision is None else decision.roles
    allow = bool(roles) and shared.in_force.rights(roles).effective.vpn
    reasons = verdict.reasons if allow or not roles else (*verdict.reasons, NO_TUNNEL)
    refused: Refused | None = None
    if allow:
        shared.decisions.note("sign-in", facts, roles, allow, policy.revision, reasons)
    else:
        code = shared.decisions.refuse("sign-in", facts, roles, policy.revision, reasons)
        refused = replace(NO_VPN if roles else NO_ROLE, support=code, reasons=said(reasons, False))
    await shared.audit.record(
        "launch",
        ok=allow,
        reason="" if refused is None else refused.code,
        user=facts.user,
        source=request.client.source,
        text=with_code(
            f"{facts.realm}: {', '.join(roles) or decisive(reasons)}",
            None if refused is None else refused.support,
        ),
        log="user",
        revision=policy.revision,
    )
    if refused is not None:
        return refused
    return SignedIn(
        seal_identity(
            audience="users",
            roles=roles,
            chosen=web_session.roles,
            method="launch",
            serial=web_session.serial,
            revision=policy.revision,
            facts=facts,
        )
    )
