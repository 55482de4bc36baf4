"""Makes sign-in conversations and holds what they share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from lockgate.model.decision import REFUSAL, Reason
from lockgate.model.identity import Identity
from lockgate.model.policy import SignInPolicy
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.prompt import Refused, SignedIn
from lockgate.model.session import EndCause
from lockgate.policy import sign_in as urls
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit, with_code
from lockgate.server.auth.attempt import Shared
from lockgate.server.auth.guard import Guard, Verdict
from lockgate.server.auth.password_check import PasswordCheck, guarded
from lockgate.server.auth.passwords import Busy, Hasher
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.servers import (
    Account,
    AuthServerDriver,
    NotChanged,
    UnknownServer,
    Wrong,
    drivers,
)
from lockgate.server.auth.sign_in import SignIn, go_on
from lockgate.server.decisions import Decisions
from lockgate.server.in_force import InForce
from lockgate.server.sessions import Sessions
from lockgate.server.store import Store
from lockgate.server.store.interface import WebSessionRecord

# Where somebody signed in this long ago still counts as a known place.
KNOWN_DAYS = 30
MAX_KNOWN = 50_000


class SignIns:
    """One per control plane."""

    def __init__(
        self,
        *,
        store: Store,
        in_force: InForce,
        sessions: Sessions,
        decisions: Decisions,
        audit: Audit,
        end_session: Callable[[int, EndCause], Awaitable[object]],
        cut_off: Callable[[], Awaitable[object]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """end_session: ends a session everywhere, also in the edge. cut_off: takes those out of the edge
        that the store has ended."""
        self._store, self._in_force, self._audit, self._clock = store, in_force, audit, clock
        self._cut_off = cut_off
        settings = in_force.tree.sign_in
        self._hasher, self._argon2 = Hasher(settings.argon2), settings.argon2
        self._guard = Guard(settings.guard)
        self._passwords = PasswordCheck(self._guard, clock)
        self._drivers: dict[str, AuthServerDriver] = {}
        self.follow()
        self._shared = Shared(
            in_force=in_force,
            passwords=self._passwords,
            driver=self.driver,
            audit=audit,
            decisions=decisions,
            at_limit=sessions.at_limit,
            end_session=end_session,
            cut_off=cut_off,
            clock=clock,
        )

    async def start(self) -> None:
        """Tells the guard where users have signed in from; a restart must not make them strangers."""
        since = self._clock() - KNOWN_DAYS * 86400
        for server, user, source in reversed(await self._store.sessions.known_sources(since, MAX_KNOWN)):
            self._guard.remember(guarded(server, user), source)

    def follow(self) -> None:
        """Takes over what the present revision says about passwords, guessing and auth servers."""
        tree = self._in_force.tree
        if tree.sign_in.argon2 != self._argon2:
            # Those that wait go on with the threads they wait for.
            self._hasher, old = Hasher(tree.sign_in.argon2), self._hasher
            self._argon2 = tree.sign_in.argon2
            old.retire()
        self._guard.adopt(tree.sign_in.guard)
        self._drivers = drivers(
            tree.auth_servers,
            self._store.users,
            self._hasher,
            lambda: self._in_force.tree.network.address_quarantine_seconds,
            self._clock,
        )

    def driver(self, server: str) -> AuthServerDriver:
        """The auth server of that name; one that nobody knows when there is none any more."""
        return self._drivers.get(server) or UnknownServer(server, self._hasher)

    async def lookup(self, server: str, name: str) -> Account | None:
        """What an auth server knows about a user (canonical name)."""
        return await self.driver(server).lookup(name)

    def address_open(self, source: str) -> bool:
        """Whether anybody may try something secret from there now."""
        return self._guard.check(None, source, self._clock()) is Verdict.OPEN

    def address_failed(self, source: str) -> None:
        """Somebody there showed a token that is none: it counts like a wrong password."""
        self._guard.failed(None, source, self._clock())

    def policy(self, request: SignInRequest) -> SignInPolicy | None:
        """The sign-in policy of a URL, for its page; None where nobody can sign in."""
        found = urls.find(
            self._in_force.policy.sign_in_policies, request.audience, request.host, request.path
        )
        return found.policy

    def conversation(self, request: SignInRequest, *, opens_session: bool = False) -> SignIn:
        """A new sign-in of that client. opens_session: see `SignIn`."""
        return SignIn(self._shared, request, opens_session=opens_session)

    async def go_on(self, web_session: WebSessionRecord, request: SignInRequest) -> SignedIn | Refused:
        """The identity of somebody who signed in to the portal, for a tunnel; no question is asked.

        web_session: live, and proven by a launch handle.
        """
        return await go_on(self._shared, web_session, request)

    async def not_opened(self, identity: Identity, what: str, problem: Problem) -> Refused:
        """A browser whose user has signed in, and that got no session: for the help desk too.

        what: "portal" or "console".
        """
        text = f"{problem.summary} {problem.fix}"
        revision, reason = self._in_force.revision, Reason(problem.summary.removesuffix("."), "", False)
        decisions = self._shared.decisions
        code = decisions.refuse(REFUSAL, identity.facts, identity.roles, revision, [reason])
        await self._audit.record(
            "web-session-open",
            ok=False,
            reason=problem.code,
            user=identity.user,
            source=identity.source,
            text=with_code(what, code),
            log="user" if identity.audience == "users" else "admin",
        )
        return Refused(problem.code, text, code)

    async def change_password(
        self, server: str, user: str, old: Secret, new: Secret, source: str, *, keep: str | None = None
    ) -> None:
        """A user's own wish. Ends the user's sessions, except the web session `keep`.

        Raises ProblemError: "busy", "password-not-changed" with a text for the user.
        """
        driver = self.driver(server)
        try:
            result = await self._change(driver, user, old, new, source, keep)
        except Busy:
            raise ProblemError(Problem("busy", "The gateway is busy.", "Try again in a moment.")) from None
        ok = not isinstance(result, NotChanged)
        text = server if not isinstance(result, NotChanged) else f"{server}: {result.text}"
        await self._audit.record("password-change", ok=ok, user=user, source=source, text=text, log="user")
        if isinstance(result, NotChanged):
            raise ProblemError(
                Problem("password-not-changed", result.text, "Choose another password and try again.")
            )
        await self._cut_off()

    async def _change(
        self, driver: AuthServerDriver, user: str, old: Secret, new: Secret, source: str, keep: str | None
    ) -> list[int] | NotChanged:
        if not driver.may_change:
            return NotChanged("Passwords of this account are not changed here.")
        account = await self._passwords.check(driver, user, old, source)
        if isinstance(account, Wrong) or not account.enabled:
            return NotChanged("The old password is wrong.")
        if new == old:
            return NotChanged("The new password is the old one.")
        return await driver.change_password(user, new, keep=keep)

    def close(self) -> None:
        """Sign-ins that wait for a hash fail."""
        self._hasher.close()
