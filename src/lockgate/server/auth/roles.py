"""The part of a sign-in that gives somebody roles: mapped by the realm's rules, chosen where there is a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lockgate.model.decision import Reason, RoleDecision
from lockgate.model.facts import SignInFacts
from lockgate.model.prompt import Prompt, Refused, RoleChoice
from lockgate.policy.effective import effective
from lockgate.policy.role_mapping import map_roles, settle
from lockgate.protocol.errors import UsageError
from lockgate.server import tracing
from lockgate.server.auth.attempt import Attempt, Granted, Person, decisive
from lockgate.server.auth.servers import Account
from lockgate.server.in_force import local_time

# Times that the choice is put to one person: somebody may have typed it.
MAX_ASKED = 3

NO_ROLE = Refused("no-role", "Your account gives no access here. Ask your administrator.")
NO_VPN = Refused("no-vpn", "Your account does not include VPN access. Ask your administrator.")
NO_TUNNEL = Reason(
    "no role has VPN tunneling", "roles", ok=False, said="none of your roles includes VPN access"
)
_NOT_CHOSEN = Reason("none of the roles that were offered was chosen", ok=False, said="you chose no role")


@dataclass(frozen=True, slots=True)
class _Choosing:
    facts: SignInFacts
    decision: RoleDecision
    asked: int


class AskRoles:
    """Ends with what is granted, or a refusal."""

    def __init__(self, attempt: Attempt, person: Person) -> None:
        self._attempt, self._person = attempt, person
        self._state: _Choosing | None = None  # None where there is nothing to choose

    async def start(self) -> Prompt | Refused | Granted:
        attempt, realm = self._attempt, self._person.realm
        now = attempt.shared.clock()
        with tracing.part("policy decision", {"lockgate.realm": realm.name}) as trace:
            trace.note({"lockgate.revision": attempt.policy.revision})
            facts = await self._known(now)
            # A yes can be explained later, from the facts and the revision that are recorded.
            decision = map_roles(attempt.policy, realm, facts, local_time(now), explain=False)
            trace.note({"lockgate.outcome": "allowed" if decision.allow else "refused"})
        if not decision.allow:
            decision = map_roles(attempt.policy, realm, facts, local_time(now))
            return await attempt.refuse(
                NO_ROLE, facts, realm, decision.reasons, kind="sign-in", text=decisive(decision.reasons)
            )
        if not decision.choices:
            return await self._grant(facts, decision.roles, (), decision.reasons)
        self._state = _Choosing(facts, decision, asked=1)
        return RoleChoice(decision.choices)

    async def answer(self, fields: Mapping[str, object]) -> Prompt | Refused | Granted:
        state = self._state
        if state is None:
            raise UsageError("the sign-in waits for no answer")
        chosen, options = fields.get("roles"), state.decision.choices
        if not isinstance(chosen, str) or chosen not in map(str, range(len(options))):
            if state.asked < MAX_ASKED:
                self._state = replace(state, asked=state.asked + 1)
                return RoleChoice(options)
            return await self._attempt.refuse(NO_ROLE, state.facts, self._person.realm, [_NOT_CHOSEN])
        roles = options[int(chosen)]
        settled = settle(state.decision, roles)
        return await self._grant(state.facts, settled.roles, roles, settled.reasons)

    async def _grant(
        self, facts: SignInFacts, roles: tuple[str, ...], chosen: tuple[str, ...], reasons: tuple[Reason, ...]
    ) -> Refused | Granted:
        if self._attempt.request.kind == "tunnel" and not self._may_tunnel(roles):
            reasons = (*reasons, NO_TUNNEL)
            return await self._attempt.refuse(
                NO_VPN, facts, self._person.realm, reasons, kind="sign-in", roles=roles
            )
        self._attempt.decide(facts, roles, True, reasons)
        return Granted(self._person, facts, roles, chosen)

    def _may_tunnel(self, roles: tuple[str, ...]) -> bool:
        in_force, policy = self._attempt.shared.in_force, self._attempt.policy
        if policy is in_force.policy:
            return in_force.rights(roles).effective.vpn
        return effective(policy, roles).vpn

    async def _known(self, now: float) -> SignInFacts:
        """Everything that role mapping may look at."""
        realm, account = self._person.realm, self._person.account
        directory: Account | None = account
        if realm.directory != realm.server:
            directory = await self._attempt.shared.driver(realm.directory).lookup(account.name)
        facts = self._attempt.facts(realm, account.name, now)
        if directory is None:
            return facts
        return replace(facts, groups=directory.groups, attributes=directory.attributes)
