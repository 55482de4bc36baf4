"""Who may try to sign in at a realm: judged before a password is looked at."""

from __future__ import annotations

from datetime import datetime

from lockgate.model.decision import Decision, Reason
from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Realm
from lockgate.policy import restrictions
from lockgate.policy.subject import Subject


def may_try(realm: Realm, facts: SignInFacts, now: datetime) -> Decision:
    """Source, browser and certificate.

    facts: what is known so far; user, groups and attributes are not looked at. now: with the gateway's
    offset from UTC.
    """
    notes: list[Reason] = []
    allow = restrictions.check(
        realm.restrictions, subject_of(realm, facts, now), f"{realm.path}/policy", notes
    )
    verb = "may" if allow else "may not"
    return Decision(
        allow, (*notes, Reason(f"this client {verb} try to sign in at {realm.name}", realm.path, allow))
    )


def subject_of(realm: Realm, facts: SignInFacts, now: datetime) -> Subject:
    """Somebody as this realm sees them: a certificate only where the realm looks at it."""
    looks = realm.restrictions.certificate.require != "none"
    return Subject(facts, now, facts.certificate if looks else None)
