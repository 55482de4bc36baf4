"""The part of a sign-in that makes room: whoever has as many sessions as are allowed says which one goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lockgate.model.decision import Reason
from lockgate.model.prompt import Prompt, Refused, SessionChoice, SessionOption
from lockgate.model.session import EndCause
from lockgate.server.auth.attempt import Attempt, Granted

# Times that the choice is put to one person; others may take the place that was freed.
MAX_ASKED = 3

NOT_CHOSEN = Refused("too-many-sessions", "Too many sessions: end one of them and sign in again.")


class AskRoom:
    """Ends with what was granted before, or a refusal."""

    def __init__(self, attempt: Attempt, granted: Granted) -> None:
        self._attempt, self._granted = attempt, granted
        self._offered: frozenset[str] = frozenset()
        self._asked = 0

    async def start(self) -> Prompt | Refused | Granted:
        """Asks where there is no room; also after a session has ended for it."""
        realm, name = self._granted.person.realm, self._granted.person.account.name
        options: Sequence[SessionOption] = ()
        if self._attempt.request.audience == "users":
            options = await self._attempt.shared.at_limit(realm.server, name, realm)
        if not options:
            return self._granted
        if self._asked >= MAX_ASKED:
            return await self._refuse()
        # Whoever got here knows the password: that must be seen even if no answer comes.
        await self._attempt.note("session-limit", name, realm)
        self._offered = frozenset(option.id for option in options)
        self._asked += 1
        return SessionChoice(tuple(options))

    async def answer(self, fields: Mapping[str, object]) -> Prompt | Refused | Granted:
        chosen = fields.get("session")
        if not isinstance(chosen, str) or chosen not in self._offered:
            return await self._refuse()
        await self._attempt.shared.end_session(int(chosen), EndCause.REPLACED)
        return await self.start()

    async def _refuse(self) -> Refused:
        granted = self._granted
        realm = granted.person.realm
        reason = Reason(
            f"{granted.facts.user} has as many sessions as {realm.name} allows: {realm.max_sessions_per_user}",
            f"{realm.path}/policy/limits/max_sessions_per_user",
            False,
            f"you may have {realm.max_sessions_per_user} sessions at a time",
        )
        return await self._attempt.refuse(NOT_CHOSEN, granted.facts, realm, [reason], roles=granted.roles)
