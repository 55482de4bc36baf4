"""The part of a sign-in that finds out who somebody is: realm, name and password.

Where the realm is the suffix of the user name, the choice of a realm comes after the credentials, and only
if the name has none. "No such user", "wrong password", "locked" and "no such realm" look and take the
same. That an account is disabled is said only to who knows its password.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lockgate.model.decision import Reason
from lockgate.model.policy import Realm, SignInPolicy
from lockgate.model.prompt import Credentials, Prompt, RealmChoice, Refused
from lockgate.policy import sign_in as urls
from lockgate.policy.realm import may_try
from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret
from lockgate.server.auth.attempt import Attempt, Person, decisive
from lockgate.server.auth.names import canonical
from lockgate.server.auth.passwords import Busy
from lockgate.server.auth.servers import Wrong
from lockgate.server.config.tree.authentication import SignInPage
from lockgate.server.in_force import local_time

BUSY = Refused("busy", "The gateway is busy. Try again in a moment.")
FAILED = Refused("sign-in-failed", "User name or password is wrong.")
DISABLED = Refused("user-disabled", "This account is disabled. Ask your administrator.")
NOT_ALLOWED = Refused("not-allowed", "Sign-in is not allowed from this network or with this program.")

# What the codes of the audit mean, for the decision that the support code finds.
_GUARD = "sign_in/guard"
_WHY = {
    "wrong-password": Reason("the password is wrong", "", False),
    "empty-password": Reason("the password is empty", "", False),
    "password-too-short": Reason("the password is shorter than passwords here are", "", False),
    "unknown-user": Reason("the auth server knows no such user", "auth_servers", False),
    "bad-name": Reason("that cannot be a user name", "", False),
    "no-auth-server": Reason("the realm's auth server does not exist", "auth_servers", False),
    "no-realm": Reason("the user name ends with no realm of this sign-in URL", "sign_in_policies", False),
    "unknown-realm": Reason("this sign-in URL has no such realm", "sign_in_policies", False),
    "address-locked": Reason("the address is locked after failed attempts", _GUARD, False),
    "user-locked": Reason("the user is locked at this address after failed attempts", _GUARD, False),
    "user-slowed": Reason("too many strange addresses try this user: one attempt at a time", _GUARD, False),
    "busy": Reason("too many passwords wait to be checked", "", False),
}
_DISABLED = Reason("the account is disabled", "", False)


def why(reason: str) -> Reason:
    """One of them."""
    return _WHY.get(reason) or Reason(f"the auth server says {reason}", "auth_servers", False)


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


class AskCredentials:
    """Ends with a `Person` or a refusal."""

    def __init__(self, attempt: Attempt, entry: SignInPolicy) -> None:
        """entry: the sign-in policy of the URL."""
        self._attempt, self._entry = attempt, entry
        policy = attempt.policy
        known: Mapping[str, Realm] = policy.realms if entry.audience == "users" else policy.admin_realms
        self.realms = [known[name] for name in entry.realms if name in known]
        self._state: _ChoosingRealm | _Asking | None = None  # None before `start`

    async def start(self) -> Prompt | Refused:
        """There must be a realm."""
        if self._entry.realm_by_suffix:
            return self._ask(None)
        first, *others = self.realms
        return self._offer_realms(0, None) if others else await self._enter_realm(first)

    async def answer(self, fields: Mapping[str, object]) -> Prompt | Refused | Person:
        match self._state:
            case _ChoosingRealm() as state:
                return await self._choose_realm(state, fields)
            case _Asking() as state:
                return await self._credentials(state, fields)
            case None:
                raise UsageError("the sign-in waits for no answer")

    # -- realm -------------------------------------------------------------------------------------

    def _offer_realms(self, failures: int, given: tuple[str, Secret] | None) -> Prompt:
        self._state = _ChoosingRealm(failures, given)
        listed = self._entry.realm_choice == "list"
        return RealmChoice(tuple(realm.name for realm in self.realms) if listed else ())

    async def _choose_realm(
        self, state: _ChoosingRealm, fields: Mapping[str, object]
    ) -> Prompt | Refused | Person:
        wanted = fields.get("realm")
        if not isinstance(wanted, str):
            raise UsageError("a realm is a text")
        realm = self._realm_called(wanted)
        if state.given is not None:
            name, password = state.given
            return await self._try(realm, name, name, password, state.failures)
        if realm is None:
            # A form that lets people type the name tells nobody which realms there are.
            unknown = "unknown-realm"
            code = await self._attempt.turn_away("", None, unknown, [why(unknown)], text=wanted)
            if state.failures + 1 >= self._attempts:
                return replace(FAILED, support=code)
            return self._offer_realms(state.failures + 1, None)
        return await self._enter_realm(realm)

    def _realm_called(self, typed: str) -> Realm | None:
        wanted = typed.strip().casefold()
        return next((realm for realm in self.realms if realm.name.casefold() == wanted), None)

    async def _enter_realm(self, realm: Realm) -> Prompt | Refused:
        refused = await self._barred(realm, "")
        return refused if refused is not None else self._ask(realm)

    async def _barred(self, realm: Realm, typed: str) -> Refused | None:
        """Why nobody may try this realm from there and with that; no password is looked at then."""
        now = self._attempt.shared.clock()
        decision = may_try(realm, self._attempt.facts(realm, typed, now), local_time(now))
        if decision.allow:
            return None
        reasons = decision.reasons
        code = await self._attempt.turn_away(typed, realm, NOT_ALLOWED.code, reasons, decisive(reasons))
        return replace(NOT_ALLOWED, support=code)

    # -- name and password -------------------------------------------------------------------------

    @property
    def _attempts(self) -> int:
        return self._attempt.shared.in_force.tree.sign_in.attempts

    def _ask(self, realm: Realm | None, failures: int = 0, typed: str = "", code: str = "") -> Prompt:
        self._state = _Asking(realm, failures, typed)
        page = self._attempt.shared.in_force.page(self._entry)
        return Credentials(
            retry=bool(failures),
            user_label=_own_label(page, "user_label"),
            password_label=_own_label(page, "password_label"),
            support=code,
        )

    async def _credentials(self, state: _Asking, fields: Mapping[str, object]) -> Prompt | Refused | Person:
        typed, password = fields.get("username", state.typed), fields.get("password")
        if not isinstance(typed, str) or not isinstance(password, Secret):
            raise UsageError("credentials are a text and a Secret")
        if state.realm is not None:
            return await self._try(state.realm, typed, typed, password, state.failures)
        split = urls.split_name(self._entry, typed)
        realm = None if split.realm is None else self._realm_called(split.realm)
        if realm is None and split.allow:
            first, *others = self.realms
            if others:
                return self._offer_realms(state.failures, (typed, password))
            realm = first
        return await self._try(realm, split.name, typed, password, state.failures)

    async def _try(
        self, realm: Realm | None, name: str, typed: str, password: Secret, failures: int
    ) -> Prompt | Refused | Person:
        """name: what goes to the auth server. typed: what the person typed, for the audit."""
        attempt, shared = self._attempt, self._attempt.shared
        user = canonical(name) if realm is not None else None
        if realm is not None and self._entry.realm_by_suffix:
            refused = await self._barred(realm, typed)
            if refused is not None:
                return refused
        # Where there is no such realm the first one's server takes the time that a wrong password takes.
        known = realm if realm is not None else self.realms[0]
        try:
            account = await shared.passwords.check(
                shared.driver(known.server), user, password, attempt.source, known.minimum_length
            )
        except Busy:
            return replace(BUSY, support=await attempt.turn_away(typed, realm, BUSY.code, [why(BUSY.code)]))
        if isinstance(account, Wrong):
            reason = "no-realm" if realm is None else account.reason
            code = await attempt.turn_away(typed, realm, reason, [why(reason)])
            if failures + 1 >= self._attempts:
                return replace(FAILED, support=code)
            again = None if self._entry.realm_by_suffix else realm
            return self._ask(again, failures + 1, typed, code)
        assert realm is not None
        if not account.enabled:
            facts = attempt.facts(realm, account.name, shared.clock())
            return await attempt.refuse(DISABLED, facts, realm, [_DISABLED])
        if account.must_change:
            await attempt.note("password-expired", typed, realm)
        return Person(realm, account)


def _own_label(page: SignInPage, name: Literal["user_label", "password_label"]) -> str:
    """A label of the page; "" for the standard one, which a front says in its own words."""
    label: str = getattr(page, name)
    return "" if label == SignInPage.model_fields[name].default else label
