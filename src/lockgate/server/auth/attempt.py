"""One attempt to sign in: what decides about it, what its parts find out, what is written down about it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from lockgate.model.decision import REFUSAL, Reason, said
from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Policy, Realm
from lockgate.model.prompt import Refused, SessionOption
from lockgate.model.session import EndCause
from lockgate.model.text import printable
from lockgate.server.audit import USER_LIMIT, Audit, with_code
from lockgate.server.auth.password_check import PasswordCheck
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.servers import Account, AuthServerDriver
from lockgate.server.decisions import Decisions
from lockgate.server.in_force import InForce
from lockgate.server.store.interface import Log


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
class Person:
    """Whose password was right, and where."""

    realm: Realm
    account: Account


@dataclass(frozen=True, slots=True)
class Granted:
    """Facts and roles; what is still missing are answers."""

    person: Person
    facts: SignInFacts
    roles: tuple[str, ...]
    chosen: tuple[str, ...]  # where there was a choice


@dataclass(frozen=True, slots=True)
class Attempt:
    """One client's. policy: one revision decides from the first prompt on."""

    shared: Shared
    request: SignInRequest
    policy: Policy

    @property
    def source(self) -> str:
        return self.request.client.source

    @property
    def log(self) -> Log:
        return "user" if self.request.audience == "users" else "admin"

    def facts(self, realm: Realm, user: str, now: float) -> SignInFacts:
        """What is known before a directory was asked."""
        client = self.request.client
        return SignInFacts(
            user=user,
            server=realm.server,
            realm=realm.name,
            source=client.source,
            user_agent=client.user_agent,
            host_name=client.host_name,
            time=now,
            certificate=self.request.certificate,
        )

    def decide(
        self, facts: SignInFacts, roles: tuple[str, ...], allow: bool, reasons: tuple[Reason, ...]
    ) -> None:
        """Records a decision about roles, to be explained later."""
        if self.request.audience == "users":
            self.shared.decisions.note("sign-in", facts, roles, allow, self.policy.revision, reasons)

    async def turn_away(
        self, typed: str, realm: Realm | None, reason: str, reasons: Sequence[Reason], text: str = ""
    ) -> str:
        """The support code of a no to somebody who has not shown who they are; audit and decision have it too.

        The same work, and the same answer, whether there is such a user or not.
        """
        client = self.request.client
        facts = SignInFacts(
            user=printable(typed, USER_LIMIT),
            server="" if realm is None else realm.server,
            realm="" if realm is None else realm.name,
            source=client.source,
            user_agent=client.user_agent,
            host_name=client.host_name,
            time=self.shared.clock(),
            certificate=self.request.certificate,
        )
        code = self.shared.decisions.turn_away(facts, self.policy.revision, reasons)
        await self.note(reason, typed, realm, text, code)
        return code

    async def refuse(
        self,
        refused: Refused,
        facts: SignInFacts,
        realm: Realm,
        reasons: Sequence[Reason],
        *,
        kind: str = REFUSAL,
        roles: tuple[str, ...] = (),
        reason: str = "",
        text: str = "",
    ) -> Refused:
        """A no to somebody whose password was right, who hears the reasons; audit and decision have the same code.

        kind: of the decision; administrators' are never made again. reason: for the audit, if not the refusal's.
        """
        if self.request.audience != "users":
            kind = REFUSAL
        code = self.shared.decisions.refuse(kind, facts, roles, self.policy.revision, reasons)
        await self.note(reason or refused.code, facts.user, realm, text, code)
        return replace(refused, support=code, reasons=said(reasons, False))

    async def note(
        self, reason: str, typed: str, realm: Realm | None = None, text: str = "", code: str = ""
    ) -> None:
        """A line in the audit about what did not lead in. typed: the name as the person gave it."""
        where = realm.name if realm is not None else ""
        await self.shared.audit.record(
            "sign-in",
            ok=False,
            reason=reason,
            user=typed,
            source=self.source,
            text=with_code(": ".join(filter(None, (where, text))), code),
            log=self.log,
        )


def decisive(reasons: Sequence[Reason]) -> str:
    """What decided a no."""
    return next((reason.text for reason in reversed(reasons) if reason.ok is False), "")
