"""Why sessions were ended: what their users are told, with a support code, and what the help desk finds by it.

The client hears of an end before the store does, so its code is made first; audit and decision get the same one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from lockgate.model.decision import END, Reason
from lockgate.model.facts import SignInFacts
from lockgate.model.session import EndCause, Session
from lockgate.server.decisions import Decisions
from lockgate.server.in_force import InForce
from lockgate.server.sessions.readmission import about_vpn
from lockgate.server.support_codes import new_support_code

MAX_REMEMBERED = 20_000  # ends; a store that fails is told of them again

_WHY = {
    EndCause.IDLE: Reason("nothing used the session for its idle time", "", False),
    EndCause.EXPIRED: Reason("the session reached its maximum length", "", False),
    EndCause.AWAY: Reason("its client was away for longer than the heartbeat time-out", "", False),
    EndCause.REPLACED: Reason("another sign-in of its user took its place", "", False),
    EndCause.DISCONNECTED: Reason("an administrator ended the session", "", False),
    EndCause.USER_DISABLED: Reason("the account was disabled", "", False),
    EndCause.USER_DELETED: Reason("the account was removed", "", False),
    EndCause.PASSWORD_CHANGED: Reason("the password was changed", "", False),
    EndCause.POLICY_CHANGED: Reason("its user has no role with VPN tunneling any more", "", False),
    EndCause.PORTAL_ENDED: Reason("the sign-in to the portal that started it is over", "", False),
    EndCause.COOKIE_REPLAYED: Reason("two parties followed the session, one of them not its user", "", False),
}


@dataclass(slots=True)
class _Ending:
    code: str
    reasons: tuple[Reason, ...] = ()  # of the policy
    recorded: bool = False


class Endings:
    """One per control plane. Looked up from the store's threads, changed by the event loop alone."""

    def __init__(self, decisions: Decisions, in_force: InForce) -> None:
        self._decisions, self._in_force = decisions, in_force
        self._endings: OrderedDict[int, _Ending] = OrderedDict()

    def code(self, session: int, cause: EndCause) -> str:
        """The support code of the end of a session, the same each time; empty where its user is told nothing."""
        return self._of(session).code if cause.told else ""

    def expect(self, session: int, reasons: Sequence[Reason]) -> str:
        """The policy has taken everything from a session, which is to end for that; the code of the end."""
        ending = self._of(session)
        ending.reasons = tuple(reasons)
        return ending.code

    def record(self, session: Session, cause: EndCause, facts: SignInFacts) -> bool:
        """Notes the decision about a session that has ended; False where that is done, or nobody is told."""
        ending = self._of(session.id)
        if ending.recorded or not cause.told:
            return False
        ending.recorded, reasons = True, [_WHY[cause]]
        if cause is EndCause.POLICY_CHANGED:
            lost = about_vpn(self._in_force.rights(session.roles).effective)
            reasons = [*(ending.reasons or lost), *reasons]
        self._decisions.note(
            END, facts, session.roles, False, self._in_force.revision, reasons, session.id, ending.code
        )
        return True

    def _of(self, session: int) -> _Ending:
        found = self._endings.get(session)
        if found is None:
            found = self._endings[session] = _Ending(new_support_code())
            if len(self._endings) > MAX_REMEMBERED:
                self._endings.popitem(last=False)
        return found
