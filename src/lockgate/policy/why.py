"""Why somebody may reach something, or may not: the decisions themselves, made once more and told in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from lockgate.model.access_rule import Address
from lockgate.model.decision import Reason
from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Policy
from lockgate.model.text import printable
from lockgate.policy import access
from lockgate.policy.effective import VPN, Effective, effective
from lockgate.policy.realm import may_try
from lockgate.policy.role_mapping import map_roles
from lockgate.policy.split import Split, split_of
from lockgate.policy.subject import MAX_TEXT

OUTSIDE = "your device reaches it outside the tunnel, by its own network"


@dataclass(frozen=True, slots=True)
class Explanation:
    """question: what was asked, as a phrase. reasons: from the realm to the verdict, which is the last."""

    question: str
    allow: bool
    reasons: tuple[Reason, ...]
    revision: int

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "question": self.question,
            "allow": self.allow,
            "revision": self.revision,
            "reasons": [reason.as_dict() for reason in self.reasons],
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        return [f"{self.question}, revision {self.revision}", *(reason.line() for reason in self.reasons)]


def explain(
    policy: Policy,
    facts: SignInFacts,
    roles: Sequence[str] | None,
    target: str | None,
    protocol: int,
    port: int | None,
    resolved: Mapping[str, Sequence[Address]],
    now: datetime,
) -> Explanation:
    """Whether somebody reaches a target: realm, rules, roles, access rule, verdict.

    roles:    of a live session, which keep counting whatever the rules would give now; None to sign in anew with these facts. Where
              the realm lets the person choose, one choice that reaches the target is enough.
    target:   an address or a DNS name, one of whose addresses is enough; None asks about signing in alone.
    protocol: IP protocol number; ICMP is ICMPv6 where the target's address is IPv6. port: None where the protocol
              has none.
    resolved: DNS name in lower case → addresses, for the target and for the names in access rules.
    now:      with the gateway's offset from UTC.
    """
    notes: list[Reason] = []
    offers = _roles(policy, facts, now, notes) if roles is None else _held(policy, facts, roles, now, notes)
    allow = False
    for offer in offers:
        if len(offers) > 1:
            notes.append(Reason(f"with the choice {', '.join(offer)}:"))
        if target is None:
            notes.extend(effective(policy, offer).reasons)
            allow = True
        elif _reach(policy, effective(policy, offer), target, protocol, port, resolved, notes):
            allow = True
    verdict = "allowed" if allow else "denied"
    return Explanation(
        _question(facts, target, protocol, port), allow, (*notes, Reason(verdict, "", allow)), policy.revision
    )


def _question(facts: SignInFacts, target: str | None, protocol: int, port: int | None) -> str:
    who = printable(facts.user, MAX_TEXT)
    if facts.source:  # nobody need say where from
        who += f" from {printable(facts.source, MAX_TEXT)}"
    if target is None:
        return f"{who} at {printable(facts.realm, MAX_TEXT)}"
    what = f"{access.protocol_name(protocol)}{'' if port is None else f' port {port}'}"
    return f"{who} to {printable(target, 260)} {what}"


def _roles(
    policy: Policy, facts: SignInFacts, now: datetime, notes: list[Reason]
) -> tuple[tuple[str, ...], ...]:
    """The sets of roles that signing in now would offer; none where it is refused."""
    realm = policy.realms.get(facts.realm)
    if realm is None:
        text = f"there is no realm {printable(facts.realm, MAX_TEXT)!r}"
        notes.append(Reason(text, "realms", False, "your realm does not exist any more"))
        return ()
    tried = may_try(realm, facts, now)
    notes.extend(tried.reasons)
    if not tried.allow:
        return ()
    decision = map_roles(policy, realm, facts, now)
    notes.extend(decision.reasons)
    return decision.choices or ((decision.roles,) if decision.roles else ())


def _held(
    policy: Policy, facts: SignInFacts, roles: Sequence[str], now: datetime, notes: list[Reason]
) -> tuple[tuple[str, ...], ...]:
    """The roles of a session, as far as they exist, with the rules that say so."""
    known = tuple(role for role in roles if role in policy.roles)
    realm = policy.realms.get(facts.realm)
    if realm is not None:
        *rules, _ = map_roles(policy, realm, facts, now).reasons
        notes.extend(rules)
    text = f"the session has the roles {', '.join(known) or 'none'}"
    said = f"your roles: {', '.join(known)}" if known else "you have no role any more"
    notes.append(Reason(text, f"realms/{facts.realm}", bool(known), said))
    notes.extend(
        Reason(f"there is no role {role!r} any more", "roles", False)
        for role in roles
        if role not in policy.roles
    )
    return (known,) if known else ()


def _reach(
    policy: Policy,
    mine: Effective,
    target: str,
    protocol: int,
    port: int | None,
    resolved: Mapping[str, Sequence[Address]],
    notes: list[Reason],
) -> bool:
    notes.extend(reason for reason in mine.reasons if reason.text.startswith(VPN))
    if not mine.vpn:
        return False
    addresses = _addresses(target, resolved, notes)
    if port is None and protocol in access.WITH_PORTS:
        text = "no port was named: rules for single ports do not count"
        notes.append(Reason(text, "", None, text))
    rules = access.compile_rules(mine.access, policy.reserved, resolved)
    split = split_of(policy, mine, resolved)
    versions = {pool.version for pool in policy.pools}
    allow = False
    for address in addresses:
        if address.version not in versions:
            text = f"clients have no IPv{address.version} address to reach {address} from"
            said = f"your device gets no IPv{address.version} address here"
            notes.append(Reason(text, "network/pools", False, said))
            continue
        _way(split, address, notes)
        number = access.ICMPV6 if protocol == access.ICMP and address.version == 6 else protocol
        decision = access.explain(rules, number, address, port)
        notes.extend(decision.reasons)
        allow = allow or decision.allow
    return allow


def _addresses(
    target: str, resolved: Mapping[str, Sequence[Address]], notes: list[Reason]
) -> Sequence[Address]:
    """What the target is, by number."""
    try:
        return (ip_address(target.strip("[]")),)
    except ValueError:
        pass
    name = target.lower().removesuffix(".")
    addresses = resolved.get(name, ())[: access.MAX_ADDRESSES]
    shown = printable(name, 260)
    if addresses:
        notes.append(Reason(f"{shown} is {', '.join(map(str, addresses))}"))
    else:
        # Not more than of a name that nothing opens: who asks is not told which names there are.
        notes.append(Reason(f"the gateway knows no address of {shown}", "", False, access.NOTHING_ALLOWS))
    return addresses


def _way(split: Split, address: Address, notes: list[Reason]) -> None:
    """Says when a client does not send packets for the address into the tunnel."""
    through, decided = split.decides(address)
    if through:
        return
    if decided is not None:
        text = f"{decided} stays outside the tunnel: {address}"
    else:
        text = f"{address} is in no network that goes through the tunnel"
    notes.append(Reason(text, "split_tunneling_networks", None, OUTSIDE))
