"""The sign-in conversation: from a URL to an identity with roles.

    start ─▶ [Notice] ─▶ [RealmChoice] ─▶ Credentials ──right──▶ [NewPassword] ─▶ [RoleChoice]
                                            ▲    │                     ─▶ [SessionChoice] ─▶ [Notice] ─▶ SignedIn
                                            └─wrong, up to `attempts`──▶ Refused

Where the realm is the suffix of the user name, the choice of a realm comes after the credentials, and only
if the name has none. "No such user", "wrong password", "locked" and "no such realm" look and take the
same. That an account is disabled is said only to who knows its password. An exception is a no: nothing
but the last line of `_seal` makes an Identity.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lockgate.model.decision import Reason, RoleDecision
from lockgate.model.facts import SignInFacts
from lockgate.model.identity import seal_identity
from lockgate.model.policy import Policy, Realm, SignInPolicy
from lockgate.model.prompt import (
    Credentials,
    NewPassword,
    Notice,
    RealmChoice,
    Refused,
    RoleChoice,
    SessionChoice,
    SessionOption,
    SignedIn,
    Step,
)
from lockgate.model.session import EndCause
from lockgate.policy import sign_in as urls
from lockgate.policy.effective import effective
from lockgate.policy.realm import may_try
from lockgate.policy.role_mapping import map_roles, settle
from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.auth.names import canonical
from lockgate.server.auth.password_check import PasswordCheck
from lockgate.server.auth.passwords import Busy
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.servers import Account, AuthServerDriver, NotChanged, Wrong
from lockgate.server.config.tree.authentication import SignInPage
from lockgate.server.decisions import Decisions
from lockgate.server.in_force import InForce, admit, local_time
from lockgate.server.store.interface import AuditEntry, Log, WebSessionRecord

# Times that the session choice is put to one person; others may take the place that was freed.
MAX_CHOICES = 3
# New passwords that may be tried in one sign-in.
MAX_NEW_PASSWORDS = 3

BUSY = Refused("busy", "The gateway is busy. Try again in a moment.")
FAILED = Refused("sign-in-failed", "User name or password is wrong.")
DISABLED = Refused("user-disabled", "This account is disabled. Ask your administrator.")
NOT_CHOSEN = Refused("too-many-sessions", "Too many sessions: end one of them and sign in again.")
NOT_HERE = Refused("no-sign-in-here", "Sign-in is not possible at this address.")
NOT_ALLOWED = Refused("not-allowed", "Sign-in is not allowed from this network or with this program.")
NO_ROLE = Refused("no-role", "Your account gives no access here. Ask your administrator.")
NO_VPN = Refused("no-vpn", "Your account does not include VPN access. Ask your administrator.")
NOT_CHANGED = Refused("password-not-changed", "The password has to be changed first.")
OUTDATED = Refused("policy-changed", "The configuration has just been changed. Sign in again.")

MUST_CHANGE = "Your password has to be changed before you can go on."


@dataclass(frozen=True, slots=True)
class Shared:
    """What all conversations of a server have in common."""

    in_force: InForce
    passwords: PasswordCheck
    # The auth server of that name.
    driver: Callable[[str], AuthServerDriver]
    audit: Audit
    decisions: Decisions
    # The user's own sessions when no more are allowed, else nothing: (server, user, realm).
    at_limit: Callable[[str, str, Realm], Awaitable[Sequence[SessionOption]]]
    # Ends a session everywhere: store and edge.
    end_session: Callable[[int, EndCause], Awaitable[object]]
    # Cuts off sessions that the store has ended already.
    cut_off: Callable[[], Awaitable[object]]
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class _NotStarted:
    pass


@dataclass(frozen=True, slots=True)
class _ShowingNotice:
    pass


@dataclass(frozen=True, slots=True)
class _ChoosingRealm:
    """`given`: name and password, where the realm was to be their suffix and was not there."""

    failures: int
    given: tuple[str, Secret] | None


@dataclass(frozen=True, slots=True)
class _Asking:
    """For name and password. realm: None where it is the suffix of the name. typed: the last name."""

    realm: Realm | None
    failures: int
    typed: str


@dataclass(frozen=True, slots=True)
class _Person:
    """Whose password was right, and where."""

    realm: Realm
    account: Account


@dataclass(frozen=True, slots=True)
class _ChangingPassword:
    person: _Person
    failures: int


@dataclass(frozen=True, slots=True)
class _Granted:
    """Facts and roles; what is still missing are answers."""

    person: _Person
    facts: SignInFacts
    roles: tuple[str, ...]
    chosen: tuple[str, ...]  # where there was a choice


@dataclass(frozen=True, slots=True)
class _ChoosingRoles:
    person: _Person
    facts: SignInFacts
    decision: RoleDecision
    wrong: int  # answers that named none of them


@dataclass(frozen=True, slots=True)
class _ChoosingSession:
    """One of the user's own sessions has to go first."""

    granted: _Granted
    offered: frozenset[str]
    choices: int


@dataclass(frozen=True, slots=True)
class _ShowingLastNotice:
    granted: _Granted


@dataclass(frozen=True, slots=True)
class _Over:
    pass


_State = (
    _NotStarted
    | _ShowingNotice
    | _ChoosingRealm
    | _Asking
    | _ChangingPassword
    | _ChoosingRoles
    | _ChoosingSession
    | _ShowingLastNotice
    | _Over
)


class SignIn:
    """One person's conversation (`model.prompt.Conversation`).

    opens_session: the caller writes the line about its success, `unwritten`, together with the session that
    it opens at once, so that both are one transaction.
    """

    def __init__(self, shared: Shared, request: SignInRequest, *, opens_session: bool = False) -> None:
        self._shared, self._request = shared, request
        self._opens_session = opens_session
        self.unwritten: tuple[AuditEntry, ...] = ()
        # One revision decides from the first prompt on; `_seal` looks whether it still counts.
        self._policy: Policy = shared.in_force.policy
        self._entry: SignInPolicy | None = None
        self._asked_more = False  # after the roles were mapped
        self._state: _State = _NotStarted()

    async def start(self) -> Step:
        """The first prompt."""
        if not isinstance(self._state, _NotStarted):
            raise UsageError("a sign-in starts once")
        self._state = _Over()
        request = self._request
        found = urls.find(self._policy.sign_in_policies, request.audience, request.host, request.path)
        entry = found.policy
        if entry is None or not self._realms(entry):
            await self._note("no-sign-in-here", "", text=_last(found.reasons))
            return NOT_HERE
        self._entry = entry
        if notice := self._policy.notifications.get(entry.pre_notification):
            self._state = _ShowingNotice()
            return Notice(notice)
        return await self._ask_realm()

    async def answer(self, fields: Mapping[str, object]) -> Step:
        """The step after the answer to the last prompt."""
        # Whatever goes wrong on the way, this conversation cannot be asked a second time.
        state, self._state = self._state, _Over()
        self._asked_more |= isinstance(state, _ChoosingRoles | _ChoosingSession | _ShowingLastNotice)
        match state:
            case _ShowingNotice():
                return await self._ask_realm()
            case _ChoosingRealm():
                return await self._choose_realm(state, fields)
            case _Asking():
                return await self._credentials(state, fields)
            case _ChangingPassword():
                return await self._change_password(state, fields)
            case _ChoosingRoles():
                return await self._choose_roles(state, fields)
            case _ChoosingSession():
                return await self._choose_session(state, fields)
            case _ShowingLastNotice(granted):
                return await self._seal(granted)
            case _:
                raise UsageError("the sign-in waits for no answer")

    # -- realm -------------------------------------------------------------------------------------

    @property
    def _policy_entry(self) -> SignInPolicy:
        assert self._entry is not None
        return self._entry

    def _realms(self, entry: SignInPolicy) -> list[Realm]:
        known: Mapping[str, Realm] = (
            self._policy.realms if entry.audience == "users" else self._policy.admin_realms
        )
        return [known[name] for name in entry.realms if name in known]

    async def _ask_realm(self) -> Step:
        entry = self._policy_entry
        if entry.realm_by_suffix:
            return self._ask(None)
        first, *others = self._realms(entry)
        return self._offer_realms(0, None) if others else await self._enter_realm(first)

    def _offer_realms(self, failures: int, given: tuple[str, Secret] | None) -> Step:
        entry = self._policy_entry
        self._state = _ChoosingRealm(failures, given)
        names = tuple(realm.name for realm in self._realms(entry)) if entry.realm_choice == "list" else ()
        return RealmChoice(names)

    async def _choose_realm(self, state: _ChoosingRealm, fields: Mapping[str, object]) -> Step:
        wanted = fields.get("realm")
        if not isinstance(wanted, str):
            raise UsageError("a realm is a text")
        realm = self._realm_called(wanted)
        if state.given is not None:
            name, password = state.given
            return await self._try(realm, name, name, password, state.failures)
        if realm is None:
            # A form that lets people type the name tells nobody which realms there are.
            await self._note("unknown-realm", "", text=wanted)
            if state.failures + 1 >= self._attempts:
                return FAILED
            return self._offer_realms(state.failures + 1, None)
        return await self._enter_realm(realm)

    def _realm_called(self, typed: str) -> Realm | None:
        wanted = typed.strip().casefold()
        realms = self._realms(self._policy_entry)
        return next((realm for realm in realms if realm.name.casefold() == wanted), None)

    async def _enter_realm(self, realm: Realm) -> Step:
        refused = await self._barred(realm, "")
        return refused if refused is not None else self._ask(realm)

    async def _barred(self, realm: Realm, typed: str) -> Refused | None:
        """Why nobody may try this realm from there and with that; no password is looked at then."""
        now = self._shared.clock()
        facts = self._facts(realm, typed, now)
        decision = may_try(realm, facts, local_time(now))
        if decision.allow:
            return None
        await self._note("not-allowed", typed, realm, text=_last(decision.reasons))
        return NOT_ALLOWED

    # -- name and password -------------------------------------------------------------------------

    @property
    def _attempts(self) -> int:
        return self._shared.in_force.tree.sign_in.attempts

    def _ask(self, realm: Realm | None, failures: int = 0, typed: str = "") -> Step:
        self._state = _Asking(realm, failures, typed)
        page, standard = self._shared.in_force.page(self._policy_entry), SignInPage.model_fields
        return Credentials(
            retry=bool(failures),
            user_label="" if page.user_label == standard["user_label"].default else page.user_label,
            password_label=""
            if page.password_label == standard["password_label"].default
            else page.password_label,
        )

    async def _credentials(self, state: _Asking, fields: Mapping[str, object]) -> Step:
        typed, password = fields.get("username", state.typed), fields.get("password")
        if not isinstance(typed, str) or not isinstance(password, Secret):
            raise UsageError("credentials are a text and a Secret")
        if state.realm is not None:
            return await self._try(state.realm, typed, typed, password, state.failures)
        split = urls.split_name(self._policy_entry, typed)
        realm = None if split.realm is None else self._realm_called(split.realm)
        if realm is None and split.allow:
            first, *others = self._realms(self._policy_entry)
            if others:
                return self._offer_realms(state.failures, (typed, password))
            realm = first
        return await self._try(realm, split.name, typed, password, state.failures)

    async def _try(self, realm: Realm | None, name: str, typed: str, password: Secret, failures: int) -> Step:
        """name: what goes to the auth server. typed: what the person typed, for the audit."""
        shared = self._shared
        user = canonical(name) if realm is not None else None
        if realm is not None and self._policy_entry.realm_by_suffix:
            refused = await self._barred(realm, typed)
            if refused is not None:
                return refused
        # Where there is no such realm the first one's server takes the time that a wrong password takes.
        known = realm if realm is not None else self._realms(self._policy_entry)[0]
        try:
            account = await shared.passwords.check(
                shared.driver(known.server), user, password, self._source, known.minimum_length
            )
        except Busy:
            await self._note("busy", typed, realm)
            return BUSY
        if isinstance(account, Wrong):
            await self._note("no-realm" if realm is None else account.reason, typed, realm)
            if failures + 1 >= self._attempts:
                return FAILED
            again = None if self._policy_entry.realm_by_suffix else realm
            return self._ask(again, failures + 1, typed)
        assert realm is not None
        if not account.enabled:
            await self._note("user-disabled", typed, realm)
            return DISABLED
        person = _Person(realm, account)
        if account.must_change:
            await self._note("password-expired", typed, realm)
            self._state = _ChangingPassword(person, 0)
            return NewPassword(MUST_CHANGE)
        return await self._map(person)

    async def _change_password(self, state: _ChangingPassword, fields: Mapping[str, object]) -> Step:
        old, new = fields.get("old"), fields.get("new")
        if not isinstance(old, Secret) or not isinstance(new, Secret):
            raise UsageError("passwords are Secrets")
        person, shared = state.person, self._shared
        driver = shared.driver(person.realm.server)
        name = person.account.name
        try:
            account = await shared.passwords.check(driver, name, old, self._source)
            if isinstance(account, Wrong):
                result: list[int] | NotChanged = NotChanged("The old password is wrong.")
            elif new == old:
                result = NotChanged("The new password is the old one.")
            else:
                result = await driver.change_password(name, new)
        except Busy:
            await self._note("busy", name, person.realm)
            return BUSY
        if isinstance(result, NotChanged):
            await self._note("password-not-changed", name, person.realm, text=result.text)
            if state.failures + 1 >= MAX_NEW_PASSWORDS:
                return NOT_CHANGED
            self._state = _ChangingPassword(person, state.failures + 1)
            return NewPassword(result.text)
        await shared.audit.record(
            "password-change", ok=True, user=name, source=self._source, text=driver.name, log="user"
        )
        await shared.cut_off()
        changed = await driver.lookup(name)
        if changed is None or not changed.enabled:
            return DISABLED
        return await self._map(replace(person, account=changed))

    # -- roles -------------------------------------------------------------------------------------

    async def _map(self, person: _Person) -> Step:
        shared, realm = self._shared, person.realm
        now = shared.clock()
        facts = await self._known(person, now)
        # A yes can be explained later, from the facts and the revision that are recorded.
        decision = map_roles(self._policy, realm, facts, local_time(now), explain=False)
        if not decision.allow:
            decision = map_roles(self._policy, realm, facts, local_time(now))
            self._decide(facts, (), False, decision.reasons)
            await self._note("no-role", facts.user, realm, text=_last(decision.reasons))
            return NO_ROLE
        if not decision.choices:
            return await self._grant(_Granted(person, facts, decision.roles, ()), decision.reasons)
        self._state = _ChoosingRoles(person, facts, decision, wrong=0)
        return RoleChoice(decision.choices)

    async def _choose_roles(self, state: _ChoosingRoles, fields: Mapping[str, object]) -> Step:
        chosen = fields.get("roles")
        options = state.decision.choices
        if not isinstance(chosen, str) or chosen not in map(str, range(len(options))):
            if state.wrong + 1 < MAX_CHOICES:  # somebody may have typed it
                self._state = replace(state, wrong=state.wrong + 1)
                return RoleChoice(options)
            await self._note("no-role", state.facts.user, state.person.realm)
            return NO_ROLE
        return await self._chosen(state.person, state.facts, state.decision, options[int(chosen)])

    async def _chosen(
        self, person: _Person, facts: SignInFacts, decision: RoleDecision, roles: tuple[str, ...]
    ) -> Step:
        settled = settle(decision, roles)
        return await self._grant(_Granted(person, facts, settled.roles, roles), settled.reasons)

    async def _grant(self, granted: _Granted, reasons: tuple[Reason, ...]) -> Step:
        refused: Refused | None = None
        if self._request.kind == "tunnel" and not self._may_tunnel(granted.roles):
            refused, reason = NO_VPN, Reason("no role has VPN tunneling", ok=False)
            reasons = (*reasons, reason)
        self._decide(granted.facts, granted.roles, refused is None, reasons)
        if refused is not None:
            await self._note(refused.code, granted.facts.user, granted.person.realm)
            return refused
        return await self._make_room(granted, choices=0)

    def _may_tunnel(self, roles: tuple[str, ...]) -> bool:
        in_force = self._shared.in_force
        if self._policy is in_force.policy:
            return in_force.rights(roles).effective.vpn
        return effective(self._policy, roles).vpn

    async def _known(self, person: _Person, now: float) -> SignInFacts:
        """Everything that role mapping may look at."""
        realm, account = person.realm, person.account
        directory: Account | None = account
        if realm.directory != realm.server:
            directory = await self._shared.driver(realm.directory).lookup(account.name)
        facts = self._facts(realm, account.name, now)
        if directory is None:
            return facts
        return replace(facts, groups=directory.groups, attributes=directory.attributes)

    # -- the rest ----------------------------------------------------------------------------------

    async def _make_room(self, granted: _Granted, choices: int) -> Step:
        """Goes on to the end, or asks which session has to go."""
        realm, name = granted.person.realm, granted.person.account.name
        options: Sequence[SessionOption] = ()
        if self._request.audience == "users":
            options = await self._shared.at_limit(realm.server, name, realm)
        if not options:
            return await self._last_notice(granted)
        if choices >= MAX_CHOICES:
            await self._note("too-many-sessions", name, realm)
            return NOT_CHOSEN
        # Whoever got here knows the password: that must be seen even if no answer comes.
        await self._note("session-limit", name, realm)
        self._state = _ChoosingSession(granted, frozenset(option.id for option in options), choices + 1)
        return SessionChoice(tuple(options))

    async def _choose_session(self, state: _ChoosingSession, fields: Mapping[str, object]) -> Step:
        chosen = fields.get("session")
        if not isinstance(chosen, str) or chosen not in state.offered:
            await self._note("too-many-sessions", state.granted.facts.user, state.granted.person.realm)
            return NOT_CHOSEN
        await self._shared.end_session(int(chosen), EndCause.REPLACED)
        return await self._make_room(state.granted, state.choices)

    async def _last_notice(self, granted: _Granted) -> Step:
        if notice := self._policy.notifications.get(self._policy_entry.post_notification):
            self._state = _ShowingLastNotice(granted)
            return Notice(notice)
        return await self._seal(granted)

    async def _seal(self, granted: _Granted) -> Step:
        facts, realm = granted.facts, granted.person.realm
        if self._asked_more:
            # A session that begins now would not hear of a group that was lost a moment ago.
            known = await self._shared.driver(realm.directory).lookup(facts.user)
            facts = replace(
                facts,
                groups=() if known is None else known.groups,
                attributes={} if known is None else known.attributes,
            )
        policy, roles = self._shared.in_force.policy, granted.roles
        if policy is not self._policy or facts != granted.facts:
            # What was decided while the person was typing may no longer be so.
            _, decision = admit(policy, self._request.audience, facts, self._shared.clock(), granted.chosen)
            if decision is None or not decision.roles:
                await self._note("policy-changed", facts.user, realm)
                return OUTDATED
            roles = decision.roles
            if self._request.kind == "tunnel" and not self._shared.in_force.rights(roles).effective.vpn:
                await self._note(NO_VPN.code, facts.user, realm)
                return NO_VPN
        line = self._shared.audit.entry(
            "sign-in",
            ok=True,
            user=facts.user,
            source=self._source,
            text=f"{realm.name}: {', '.join(roles)}",
            log=self._log,
            revision=policy.revision,
        )
        if self._opens_session:
            self.unwritten = (line,)
        else:
            await self._shared.audit.write(line)
        return SignedIn(
            seal_identity(
                audience=self._request.audience,
                roles=roles,
                chosen=granted.chosen,
                method="password",
                serial=granted.person.account.serial,
                revision=policy.revision,
                facts=facts,
            )
        )

    # -- written down ------------------------------------------------------------------------------

    @property
    def _source(self) -> str:
        return self._request.client.source

    @property
    def _log(self) -> Log:
        return "user" if self._request.audience == "users" else "admin"

    def _facts(self, realm: Realm, user: str, now: float) -> SignInFacts:
        client = self._request.client
        return SignInFacts(
            user=user,
            server=realm.server,
            realm=realm.name,
            source=client.source,
            user_agent=client.user_agent,
            host_name=client.host_name,
            time=now,
            certificate=self._request.certificate,
        )

    def _decide(
        self, facts: SignInFacts, roles: tuple[str, ...], allow: bool, reasons: tuple[Reason, ...]
    ) -> None:
        if self._request.audience == "users":
            self._shared.decisions.note("sign-in", facts, roles, allow, self._policy.revision, reasons)

    async def _note(self, reason: str, typed: str, realm: Realm | None = None, text: str = "") -> None:
        where = realm.name if realm is not None else ""
        await self._shared.audit.record(
            "sign-in",
            ok=False,
            reason=reason,
            user=typed,
            source=self._source,
            text=": ".join(filter(None, (where, text))),
            log=self._log,
        )


async def go_on(shared: Shared, web_session: WebSessionRecord, request: SignInRequest) -> SignedIn | Refused:
    """The identity of somebody who signed in to the portal, for a tunnel of the same place.

    Realm and roles are judged anew, for the program that asks. The store refuses the session when the
    account has changed since the portal sign-in.
    """
    now = shared.clock()
    client = request.client
    known = web_session.facts
    if known is None or web_session.audience != "portal":
        raise UsageError("only a portal session with its facts can go on")
    facts = replace(
        known,
        source=client.source,
        user_agent=client.user_agent,
        host_name=client.host_name,
        certificate=request.certificate,
    )
    policy = shared.in_force.policy
    verdict, decision = admit(policy, "users", facts, now, web_session.roles)
    roles = () if decision is None else decision.roles
    allow = bool(roles) and shared.in_force.rights(roles).effective.vpn
    shared.decisions.note("sign-in", facts, roles, allow, policy.revision, verdict.reasons)
    where = f"{facts.realm}: {', '.join(roles) or _last(verdict.reasons)}"
    reason = "" if allow else ("no-vpn" if roles else "no-role")
    await shared.audit.record(
        "launch",
        ok=allow,
        reason=reason,
        user=facts.user,
        source=client.source,
        text=where,
        log="user",
        revision=policy.revision,
    )
    if not allow:
        return NO_VPN if roles else NO_ROLE
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


def _last(reasons: Sequence[Reason]) -> str:
    """What decided."""
    return next((reason.text for reason in reversed(reasons) if reason.ok is False), "")
