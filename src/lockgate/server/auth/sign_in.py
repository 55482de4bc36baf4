"""The sign-in conversation over local users.

    start ─▶ [Notice] ─▶ Credentials ──right──▶ [SessionChoice] ─▶ SignedIn
                            ▲    │
                            └─wrong, up to `attempts`──▶ Refused

"No such user", "wrong password" and "locked" look and take the same. That an account is disabled
is said only to who knows its password. An exception is a no: nothing but the last line of
`_finish` makes an Identity.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from lockgate.model.identity import seal_identity
from lockgate.model.prompt import (
    Credentials,
    Notice,
    Refused,
    SessionChoice,
    SessionOption,
    SignedIn,
    Step,
)
from lockgate.model.session import EndCause
from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.auth.guard import Guard, Verdict
from lockgate.server.auth.names import canonical
from lockgate.server.auth.passwords import Busy, Hasher
from lockgate.server.config.tree import SignIn as Settings
from lockgate.server.store.interface import UserRecord, Users

REALM = "Users"
ROLES = ("Users",)
# Times that the session choice is put to one person; others may take the place that was freed.
MAX_CHOICES = 3

BUSY = Refused("busy", "The gateway is busy. Try again in a moment.")
FAILED = Refused("sign-in-failed", "User name or password is wrong.")
DISABLED = Refused("user-disabled", "This account is disabled. Ask your administrator.")
NOT_CHOSEN = Refused("too-many-sessions", "Too many sessions: end one of them and sign in again.")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all conversations of a server have in common."""

    settings: Settings
    users: Users
    hasher: Hasher
    guard: Guard
    audit: Audit
    # The user's own sessions when no more are allowed, else nothing.
    at_limit: Callable[[str], Awaitable[Sequence[SessionOption]]]
    # Ends a session everywhere: store and edge.
    end_session: Callable[[int, EndCause], Awaitable[object]]
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class _NotStarted:
    pass


@dataclass(frozen=True, slots=True)
class _ShowingNotice:
    pass


@dataclass(frozen=True, slots=True)
class _Asking:
    """For name and password; `typed` is the last name."""

    failures: int
    typed: str


@dataclass(frozen=True, slots=True)
class _Choosing:
    """The password was right; one of the user's own sessions has to go first."""

    user: UserRecord
    offered: frozenset[str]
    choices: int


@dataclass(frozen=True, slots=True)
class _Over:
    pass


class SignIn:
    """One person's conversation (`model.prompt.Conversation`), from one source address."""

    def __init__(self, shared: Shared, source: str) -> None:
        self._shared = shared
        self._source = source
        self._state: _NotStarted | _ShowingNotice | _Asking | _Choosing | _Over = _NotStarted()

    async def start(self) -> Step:
        """The first prompt."""
        if not isinstance(self._state, _NotStarted):
            raise UsageError("a sign-in starts once")
        if self._shared.settings.notice:
            self._state = _ShowingNotice()
            return Notice(self._shared.settings.notice)
        return self._ask()

    async def answer(self, fields: Mapping[str, object]) -> Step:
        """The step after the answer to the last prompt."""
        # Whatever goes wrong on the way, this conversation cannot be asked a second time.
        state, self._state = self._state, _Over()
        match state:
            case _ShowingNotice():
                return self._ask()
            case _Asking():
                return await self._try(state, fields)
            case _Choosing():
                return await self._choose(state, fields)
            case _:
                raise UsageError("the sign-in waits for no answer")

    def _ask(self) -> Step:
        self._state = _Asking(failures=0, typed="")
        return Credentials(retry=False)

    async def _try(self, state: _Asking, fields: Mapping[str, object]) -> Step:
        typed, password = fields.get("username", state.typed), fields.get("password")
        if not isinstance(typed, str) or not isinstance(password, Secret):
            raise UsageError("credentials are a text and a Secret")
        name = canonical(typed)
        try:
            user, reason = await self._verify(name, password)
        except Busy:
            await self._note("busy", typed)
            return BUSY
        if user is None:
            await self._note(reason, typed)
            failures = state.failures + 1
            if failures >= self._shared.settings.attempts:
                return FAILED
            self._state = _Asking(failures, typed)
            return Credentials(retry=True)
        if not user.enabled:
            await self._note("user-disabled", typed)
            return DISABLED
        return await self._make_room(user, choices=0)

    async def _verify(self, name: str | None, password: Secret) -> tuple[UserRecord | None, str]:
        """The user whose password this is, or None and why not. Raises Busy."""
        shared = self._shared
        verdict = shared.guard.check(name, self._source, shared.clock())
        if verdict is Verdict.OPEN:
            async with shared.hasher.slot():
                # Again: others may have failed while this one waited.
                verdict = shared.guard.begin(name, self._source, shared.clock())
                if verdict is Verdict.OPEN:
                    return await self._compare(name, password)
        await shared.hasher.pretend()
        return None, verdict.value

    async def _compare(self, name: str | None, password: Secret) -> tuple[UserRecord | None, str]:
        shared = self._shared
        user = await shared.users.find(name or "")
        if not await shared.hasher.verify(user.password_hash if user else None, password):
            shared.guard.failed(name, self._source, shared.clock())
            return None, _reason(name, user, password)
        assert user is not None
        if user.enabled:
            shared.guard.succeeded(user.name, self._source)
            renewed = await shared.hasher.renewed(user.password_hash, password)
            if renewed is not None:
                await shared.users.renew_hash(user.name, user.password_hash, renewed)
        return user, ""

    async def _make_room(self, user: UserRecord, choices: int) -> Step:
        """Goes on to the end, or asks which session has to go."""
        options = await self._shared.at_limit(user.name)
        if not options:
            return await self._finish(user)
        if choices >= MAX_CHOICES:
            await self._note("too-many-sessions", user.name)
            return NOT_CHOSEN
        # Whoever got here knows the password: that must be seen even if no answer comes.
        await self._note("session-limit", user.name)
        self._state = _Choosing(user, frozenset(option.id for option in options), choices + 1)
        return SessionChoice(tuple(options))

    async def _choose(self, state: _Choosing, fields: Mapping[str, object]) -> Step:
        chosen = fields.get("session")
        if not isinstance(chosen, str) or chosen not in state.offered:
            await self._note("too-many-sessions", state.user.name)
            return NOT_CHOSEN
        await self._shared.end_session(int(chosen), EndCause.REPLACED)
        return await self._make_room(state.user, state.choices)

    async def _finish(self, user: UserRecord) -> Step:
        await self._shared.audit.record("sign-in", ok=True, user=user.name, source=self._source)
        return SignedIn(
            seal_identity(
                user=user.name,
                realm=REALM,
                roles=ROLES,
                method="password",
                source=self._source,
                serial=user.serial,
                now=self._shared.clock(),
            )
        )

    async def _note(self, reason: str, typed: str) -> None:
        await self._shared.audit.record("sign-in", ok=False, reason=reason, user=typed, source=self._source)


def _reason(name: str | None, user: UserRecord | None, password: Secret) -> str:
    """Why an attempt failed, for the audit alone."""
    if name is None:
        return "bad-name"
    if user is None:
        return "unknown-user"
    return "wrong-password" if password else "empty-password"
