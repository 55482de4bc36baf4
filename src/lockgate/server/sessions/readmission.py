"""What a live session is worth now: its user's roles, what they grant, whether a client may go on with it.

Asked when a client comes back, and when a revision, an account or the clock may have changed the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lockgate.model.decision import Reason
from lockgate.model.facts import CertificateFacts, SignInFacts
from lockgate.model.session import ClientFacts, RefusalReason, Session
from lockgate.policy.effective import VPN, Effective
from lockgate.server.in_force import InForce, admit
from lockgate.server.sessions.addresses import same_place
from lockgate.server.store.interface import Grant


@dataclass(frozen=True, slots=True)
class Readmission:
    """A decision about a session that goes on, or does not. grant: what differs from what it has, if anything."""

    facts: SignInFacts
    roles: tuple[str, ...]
    revision: int
    reasons: tuple[Reason, ...]
    refusal: RefusalReason | None
    grant: Grant | None


def readmit(
    in_force: InForce, session: Session, client: ClientFacts, certificate: CertificateFacts | None, now: float
) -> Readmission:
    """The decision about a client that comes back. now: seconds since 1970. Called in a thread of the store."""
    known = facts_of(session)
    facts = client.seen_in(known, certificate)
    # Asked before the decision: another revision may come meanwhile.
    revision = in_force.revision
    roles, reasons = roles_of(in_force, session, facts, now)
    refusal: RefusalReason | None = None
    grant = grant_of(in_force, session, roles, facts, revision)
    options = in_force.rights(roles).effective
    if not roles or not options.vpn:
        refusal = RefusalReason.NOT_ALLOWED
    elif not same_place(options.session, known.source, client.source):
        refusal = RefusalReason.ROAMING
    elif grant is not None and grant.expires <= now:
        refusal = RefusalReason.EXPIRED
    if refusal is RefusalReason.NOT_ALLOWED and roles:
        reasons = (*reasons, *about_vpn(options))
    elif refusal is RefusalReason.ROAMING:
        text = f"the session began at {known.source} and may not go on from {client.source}"
        reasons = (*reasons, Reason(text, "roles", False))
    elif refusal is RefusalReason.EXPIRED:
        reasons = (*reasons, Reason("the session is as long as its roles allow now", "roles", False))
    return Readmission(facts, roles, revision, reasons, refusal, grant)


def roles_of(
    in_force: InForce, session: Session, facts: SignInFacts, now: float, *, explain: bool = True
) -> tuple[tuple[str, ...], tuple[Reason, ...]]:
    """The roles that the session's user would have at that moment, none where the realm lets nobody in; and why."""
    verdict, decision = admit(in_force.policy, "users", facts, now, session.chosen, explain=explain)
    return (() if decision is None else decision.roles), verdict.reasons


def grant_of(
    in_force: InForce,
    session: Session,
    roles: tuple[str, ...],
    facts: SignInFacts,
    revision: int | None = None,
) -> Grant | None:
    """What differs from what the session has; None when nothing does. revision: that gave the roles, where
    it is not the present one."""
    options = in_force.rights(roles).effective.session
    grant = Grant(
        roles=roles,
        revision=in_force.revision if revision is None else revision,
        expires=session.counted_from + options.length_seconds,
        idle_seconds=options.idle_seconds,
        heartbeat_seconds=options.heartbeat_timeout_seconds,
        facts=None if facts == session.facts else facts,
        counted_from=session.counted_from,
    )
    had = replace(
        grant,
        roles=session.roles,
        expires=session.expires,
        idle_seconds=session.idle_seconds,
        heartbeat_seconds=session.heartbeat_seconds,
        facts=None,
    )
    return None if grant == had else grant


def about_vpn(effective: Effective) -> tuple[Reason, ...]:
    """Why roles give VPN access or not."""
    return tuple(each for each in effective.reasons if each.text.startswith(VPN))


def facts_of(session: Session) -> SignInFacts:
    """What is known about the user of a session; of an earlier release's little more than the name."""
    if session.facts is not None:
        return session.facts
    client = session.client
    return SignInFacts(
        user=session.user,
        server=session.server,
        realm=session.realm,
        source=client.source,
        user_agent=client.user_agent,
        host_name=client.host_name,
        time=session.started,
    )
