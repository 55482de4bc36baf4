"""What another policy would have changed: recorded decisions made again under both, person by person.

Passwords and numbers of sessions are not part of it; what is compared is what the policies say about the
same facts at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from lockgate.model.access_rule import Address, RuleSet
from lockgate.model.decision import RecordedDecision
from lockgate.model.facts import SignInFacts
from lockgate.model.policy import AdminRealm, Policy, Realm
from lockgate.policy import access, reach
from lockgate.policy.changes import Change, Person, Report
from lockgate.policy.effective import VPN, Effective, effective
from lockgate.policy.merge import as_limit
from lockgate.policy.realm import may_try
from lockgate.policy.role_mapping import map_roles, settle

ADMIN_KIND = "admin"
"""How the kind of a decision about an administrator begins."""


def replay(
    old: Policy,
    new: Policy,
    decisions: Iterable[RecordedDecision],
    resolved: Mapping[str, Sequence[Address]],
    local: Callable[[float], datetime],
) -> Report:
    """Makes every decision again under both policies and compares.

    resolved: DNS name in lower case → addresses, for both. local: seconds since 1970 → the gateway's clock then,
    with its offset from UTC.
    """
    sides = (_Side(old, resolved), _Side(new, resolved))
    comparison = _Comparison(*sides)
    people: dict[tuple[str, str], _Found] = {}
    replayed = 0
    for decision in decisions:
        replayed += 1
        facts = decision.facts
        found = people.setdefault((facts.user, facts.server), _Found())
        before = sides[0].outcome(decision, local)
        after = before if comparison.same_mapping(decision) else sides[1].outcome(decision, local)
        changes = comparison.changes(facts.realm, before, after)
        if changes:
            found.decisions += 1
            found.last = max(found.last, decision.time)
            found.changes.update(dict.fromkeys(changes))
    affected = tuple(
        Person(user, server, found.decisions, found.last, tuple(found.changes))
        for (user, server), found in sorted(people.items())
        if found.changes
    )
    return Report(old.revision, new.revision, replayed, len(people), affected, comparison.complete)


@dataclass(slots=True)
class _Found:
    decisions: int = 0
    last: float = 0.0
    changes: dict[Change, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """roles: empty where there is no sign-in. why: the reason that decided."""

    roles: tuple[str, ...]
    administrator: bool
    why: str


class _Side:
    """One of the policies, with everything kept that many decisions share."""

    def __init__(self, policy: Policy, resolved: Mapping[str, Sequence[Address]]) -> None:
        self.policy = policy
        self._resolved = resolved
        self._outcomes: dict[object, _Outcome] = {}
        self._effective: dict[tuple[str, ...], Effective] = {}
        self._rules: dict[tuple[str, ...], RuleSet] = {}

    def outcome(self, decision: RecordedDecision, local: Callable[[float], datetime]) -> _Outcome:
        administrator = decision.kind.startswith(ADMIN_KIND)
        realm = self.realm(administrator, decision.facts.realm)
        if realm is None:
            return _Outcome((), administrator, f"there is no realm {decision.facts.realm!r}")
        # A clock shows minutes; without rules that look at it the same facts give the same at any time.
        minutes = (decision.time // 60, decision.facts.time // 60) if realm.uses_time else None
        key = (administrator, _key(decision.facts), decision.roles, minutes)
        if key not in self._outcomes:
            now = local(decision.time)
            self._outcomes[key] = self._decide(realm, decision, now, administrator)
        return self._outcomes[key]

    def realm(self, administrator: bool, name: str) -> Realm | AdminRealm | None:
        return self.policy.admin_realms.get(name) if administrator else self.policy.realms.get(name)

    def limits(self, administrator: bool, name: str) -> object:
        """What decides whether the role can be had."""
        if administrator:
            return name in self.policy.admin_roles
        role = self.policy.roles.get(name)
        return None if role is None else role.restrictions

    def _decide(
        self, realm: Realm, decision: RecordedDecision, now: datetime, administrator: bool
    ) -> _Outcome:
        tried = may_try(realm, decision.facts, now)
        if not tried.allow:
            return _Outcome((), administrator, tried.reasons[-2].text)
        mapped = settle(map_roles(self.policy, realm, decision.facts, now, explain=False), decision.roles)
        why = "" if mapped.roles else "no role is given"
        return _Outcome(mapped.roles, administrator, why)

    def effective(self, roles: tuple[str, ...]) -> Effective:
        if roles not in self._effective:
            self._effective[roles] = effective(self.policy, roles)
        return self._effective[roles]

    def rules(self, roles: tuple[str, ...]) -> RuleSet:
        if roles not in self._rules:
            written = self.effective(roles).access
            self._rules[roles] = access.compile_rules(written, self.policy.reserved, self._resolved)
        return self._rules[roles]


class _Comparison:
    """What differs between outcomes, worked out once for each pair of role sets."""

    def __init__(self, old: _Side, new: _Side) -> None:
        self._old, self._new = old, new
        self._settings: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Change, ...]] = {}
        self._same: dict[tuple[bool, str], bool] = {}
        self.complete = True

    def same_mapping(self, decision: RecordedDecision) -> bool:
        """Whether both policies map roles in that realm alike, so that one outcome serves for both."""
        administrator, name = decision.kind.startswith(ADMIN_KIND), decision.facts.realm
        key = (administrator, name)
        if key not in self._same:
            one, two = self._old.realm(*key), self._new.realm(*key)
            given = {role for rule in one.rules for role in rule.roles} if one else set()
            self._same[key] = one == two and all(
                self._old.limits(administrator, role) == self._new.limits(administrator, role)
                for role in given
            )
        return self._same[key]

    def changes(self, realm: str, before: _Outcome, after: _Outcome) -> tuple[Change, ...]:
        if not before.roles and not after.roles:
            return ()
        if not after.roles:
            return (Change("sign-in", f"signing in at {realm}: {after.why}", False),)
        if not before.roles:
            roles = ", ".join(after.roles)
            return (Change("sign-in", f"signing in at {realm}, with {roles}: {before.why} until now", True),)
        found = [
            *(Change("role", f"role {role}", False) for role in before.roles if role not in after.roles),
            *(Change("role", f"role {role}", True) for role in after.roles if role not in before.roles),
        ]
        if not before.administrator:
            found.extend(self._of_roles(before.roles, after.roles))
        return tuple(found)

    def _of_roles(self, before: tuple[str, ...], after: tuple[str, ...]) -> tuple[Change, ...]:
        key = (before, after)
        if key not in self._settings:
            one, two = self._old.effective(before), self._new.effective(after)
            reached = reach.difference(self._old.rules(before), self._new.rules(after))
            self.complete = self.complete and reached.complete
            self._settings[key] = (
                *_features(one, two),
                *(Change("destination", text, False) for text in reached.lost),
                *(Change("destination", text, True) for text in reached.gained),
                *_settings(one, two),
            )
        return self._settings[key]


def _features(one: Effective, two: Effective) -> Iterable[Change]:
    for name, was, now in (
        ("Web", one.web, two.web),
        ("bookmarks of one's own", one.own_bookmarks, two.own_bookmarks),
        (VPN, one.vpn, two.vpn),
    ):
        if was is not now:
            yield Change("feature", name, now)


_MORE: Mapping[str, Callable[[int], Any]] = {
    "length_seconds": int,
    "allow_extension": int,
    "extension_limit_seconds": as_limit,
    "idle_seconds": as_limit,
    "heartbeat_timeout_seconds": as_limit,
}


def _settings(one: Effective, two: Effective) -> Iterable[Change]:
    """Options of the session and of its tunnel."""
    for each in fields(one.session):
        was, now = getattr(one.session, each.name), getattr(two.session, each.name)
        if was != now:
            more = _MORE.get(each.name)
            gain = None if more is None else more(now) > more(was)
            yield Change("session", f"{each.name}: {_shown(was)}, then {_shown(now)}", gain)
    if not (one.vpn and two.vpn):
        return
    for each in fields(one.vpn_options):
        was, now = getattr(one.vpn_options, each.name), getattr(two.vpn_options, each.name)
        if was != now:
            yield Change("session", f"{each.name}: {_shown(was)}, then {_shown(now)}", None)
    for name, was, now in (
        ("includes", (*one.includes, *one.include_names), (*two.includes, *two.include_names)),
        ("excludes", (*one.excludes, *one.exclude_names), (*two.excludes, *two.exclude_names)),
    ):
        gone, new = [net for net in was if net not in now], [net for net in now if net not in was]
        if gone or new:
            signs = [*(f"-{net}" for net in gone), *(f"+{net}" for net in new)]
            yield Change("session", f"split tunnelling {name}: {' '.join(signs[:10])}", None)
    for name in ("rate_up", "rate_down"):
        was, now = getattr(one, name), getattr(two, name)
        if was != now:
            text = f"{name}: {was or 'no limit'}, then {now or 'no limit'} bit/s"
            yield Change("session", text, as_limit(now) > as_limit(was))
    if one.profile != two.profile:
        names = [profile.name or "none" for profile in (one.profile, two.profile)]
        text = (
            f"connection profile {names[0]}, then {names[1]}"
            if names[0] != names[1]
            else f"connection profile {names[0]} changes"
        )
        yield Change("session", text, None)


def _shown(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value) or "none"


def _key(facts: SignInFacts) -> tuple[object, ...]:
    """The facts without the time, to look up what was decided about the same ones."""
    certificate = facts.certificate
    return (
        facts.user,
        facts.server,
        facts.realm,
        facts.source,
        facts.user_agent,
        facts.host_name,
        facts.groups,
        tuple(sorted(facts.attributes.items())),
        None
        if certificate is None
        else (certificate.fingerprint, tuple(sorted(certificate.subject.items())), certificate.issuer),
    )
