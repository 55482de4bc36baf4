"""Which roles somebody gets.

Rules are looked at in order; each whose condition holds gives its roles, and one with `stop` is the last.
A role whose restrictions are not met is left out. With several roles the realm merges them, or lets the
person choose one role or the set of roles of one rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from lockgate.model.decision import Reason, RoleDecision
from lockgate.model.facts import SignInFacts
from lockgate.model.policy import AdminRealm, Policy, Realm, RoleMappingRule
from lockgate.policy import conditions, restrictions
from lockgate.policy.realm import subject_of
from lockgate.policy.subject import MAX_SHOWN, Subject

MAX_UNMATCHED = 20
"""Rules that do not match are told one by one up to this many; the rest are counted."""


def map_roles(
    policy: Policy, realm: Realm, facts: SignInFacts, now: datetime, *, explain: bool = True
) -> RoleDecision:
    """The roles of `realm`, of the kind that it gives: user roles, or delegated administrator roles.

    now: with the gateway's offset from UTC. explain: without it the decision is the same and says less.
    """
    notes: list[Reason] | None = [] if explain else None
    subject = subject_of(realm, facts, now)
    sets = _matching(policy, realm, subject, notes)
    roles = tuple(dict.fromkeys(role for each in sets for role in each))
    choices: tuple[tuple[str, ...], ...] = ()
    if not isinstance(realm, AdminRealm) and realm.when_several != "merge":
        offers = [(role,) for role in roles] if realm.when_several == "choose-role" else sets
        distinct: dict[frozenset[str], tuple[str, ...]] = {}
        for offer in offers:
            distinct.setdefault(frozenset(offer), offer)
        choices = tuple(distinct.values()) if len(distinct) > 1 else ()
    if notes is not None:
        notes.append(_outcome(realm, roles, choices))
    return RoleDecision(() if choices else roles, choices, tuple(notes or ()))


def settle(decision: RoleDecision, chosen: tuple[str, ...]) -> RoleDecision:
    """The decision after a choice, made now or remembered.

    A remembered set that is no longer offered shrinks to what is left of it in the offer that shares most
    with it: a role that is lost is lost now, and none is added that nobody chose. Where nothing is left to
    choose the decision stays: signing in again would give the same.
    """
    if not decision.choices:
        return decision
    if chosen in decision.choices:
        return RoleDecision(chosen, (), (*decision.reasons, Reason(f"chosen: {', '.join(chosen)}", "", True)))
    kept = max((tuple(role for role in offer if role in chosen) for offer in decision.choices), key=len)
    text = f"chosen was {', '.join(chosen) or 'nothing'}; of that is left {', '.join(kept) or 'nothing'}"
    said = "" if kept else "the role that you chose is not yours any more"
    return RoleDecision(kept, (), (*decision.reasons, Reason(text, "", bool(kept), said)))


def _matching(
    policy: Policy, realm: Realm, subject: Subject, notes: list[Reason] | None
) -> list[tuple[str, ...]]:
    """The roles that each matching rule gives, restrictions considered; rules that give none left out."""
    sets: list[tuple[str, ...]] = []
    usable: dict[str, bool] = {}
    unmatched = 0
    for position, rule in enumerate(realm.rules):
        told: list[Reason] | None = [] if notes is not None and unmatched < MAX_UNMATCHED else None
        matches = conditions.holds(rule.condition, subject, told)
        if matches and notes is not None and told is None:
            told = []  # told after all: the first look was without words
            conditions.holds(rule.condition, subject, told)
        if notes is not None and told is not None:
            notes.append(_about(realm, rule, matches, told))
        if not matches:
            unmatched += 1
            continue
        given = tuple(role for role in rule.roles if _usable(policy, realm, role, subject, usable, notes))
        if given:
            sets.append(given)
            subject.roles = (*subject.roles, *given)
        if rule.stop:
            left = len(realm.rules) - position - 1
            if notes is not None and left:
                text = f"rule {rule.name!r} stops; rules after it that are not looked at: {left}"
                notes.append(Reason(text, f"{realm.path}/rules/{rule.name}/stop"))
            break
    if notes is not None and unmatched > MAX_UNMATCHED:
        notes.append(
            Reason(f"further rules that do not match: {unmatched - MAX_UNMATCHED}", f"{realm.path}/rules")
        )
    return sets


def _about(realm: Realm, rule: RoleMappingRule, matches: bool, told: Sequence[Reason]) -> Reason:
    """One sentence about a rule."""
    why = "; ".join(reason.text for reason in told[:MAX_SHOWN])
    more = f" and {len(told) - MAX_SHOWN} more" if len(told) > MAX_SHOWN else ""
    result = f"matches and gives {', '.join(rule.roles) or 'no role'}" if matches else "does not match"
    return Reason(f"rule {rule.name!r} {result} ({why}{more})", f"{realm.path}/rules/{rule.name}", matches)


def _usable(
    policy: Policy,
    realm: Realm,
    name: str,
    subject: Subject,
    known: dict[str, bool],
    notes: list[Reason] | None,
) -> bool:
    """Whether the role exists and its restrictions are met; looked at once a decision."""
    if name in known:
        return known[name]
    if isinstance(realm, AdminRealm):
        ok = name in policy.admin_roles
        collection: Mapping[str, object] = policy.admin_roles
        path = f"admin_roles/{name}"
    else:
        collection, path = policy.roles, f"roles/{name}"
        role = policy.roles.get(name)
        ok = role is not None and restrictions.check(
            role.restrictions, subject, f"{path}/restrictions", notes
        )
    if not ok and notes is not None:
        why = "its restrictions are not met" if name in collection else "there is no such role"
        said = f"the role {name} is not given: its conditions are not met" if name in collection else ""
        notes.append(Reason(f"role {name!r} is left out: {why}", path, False, said))
    known[name] = ok
    return ok


def _outcome(realm: Realm, roles: tuple[str, ...], choices: tuple[tuple[str, ...], ...]) -> Reason:
    if choices:
        offered = "; ".join(", ".join(each) for each in choices)
        return Reason(f"to choose from: {offered}", f"{realm.path}/when_several", True)
    if roles:
        return Reason(f"roles: {', '.join(roles)}", realm.path, True, f"your roles: {', '.join(roles)}")
    return Reason(
        "no rule gives a role: nothing may be used", realm.path, False, "your account has no role here"
    )
