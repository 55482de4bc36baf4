"""Who may come at all: source address, browser, certificate; the same for realms and for roles."""

from __future__ import annotations

from lockgate.model.decision import Reason
from lockgate.model.policy import BrowserPolicy, CertificateRequirement, Restrictions, SourcePolicy
from lockgate.model.text import printable
from lockgate.policy.subject import MAX_TEXT, Subject, shown


def check(restrictions: Restrictions, subject: Subject, path: str, notes: list[Reason] | None) -> bool:
    """Whether all of them are met; the first that is not ends it.

    path: of the restrictions in the tree. notes: gets a reason for every restriction that has rules.
    """
    return (
        _source(restrictions.source, subject, f"{path}/source", notes)
        and _browser(restrictions.browser, subject, f"{path}/browser", notes)
        and _certificate(restrictions.certificate, subject, f"{path}/certificate", notes)
    )


def _note(notes: list[Reason] | None, text: str, path: str, ok: bool) -> bool:
    if notes is not None:
        notes.append(Reason(text, path, ok))
    return ok


def _source(policy: SourcePolicy, subject: Subject, path: str, notes: list[Reason] | None) -> bool:
    if not policy.rules and policy.otherwise:
        return True
    address = subject.address
    if address is None:
        return _note(
            notes, f"the source {printable(subject.facts.source, MAX_TEXT)!r} is no address", path, False
        )
    for rule in policy.rules:
        if address in rule.network:
            verb = "allowed" if rule.allow else "denied"
            return _note(notes, f"users from {rule.network} are {verb}: {address}", path, rule.allow)
    verb = "allowed" if policy.otherwise else "denied"
    return _note(notes, f"no source rule covers {address}: everybody else is {verb}", path, policy.otherwise)


def _browser(policy: BrowserPolicy, subject: Subject, path: str, notes: list[Reason] | None) -> bool:
    if not policy.rules and policy.otherwise:
        return True
    shown_agent = repr(printable(subject.facts.user_agent, MAX_TEXT))
    for rule in policy.rules:
        if rule.pattern.matches(subject.user_agent):
            verb = "allowed" if rule.allow else "denied"
            return _note(
                notes, f"browsers like {str(rule.pattern)!r} are {verb}: {shown_agent}", path, rule.allow
            )
    verb = "allowed" if policy.otherwise else "denied"
    return _note(
        notes, f"no browser rule matches {shown_agent}: all others are {verb}", path, policy.otherwise
    )


def _certificate(
    requirement: CertificateRequirement, subject: Subject, path: str, notes: list[Reason] | None
) -> bool:
    if requirement.require != "required":
        return True
    if subject.certificate is None:
        return _note(notes, "a certificate is required and there is none", path, False)
    for attribute, patterns in requirement.attributes:
        if not any(patterns.match(value) for value in subject.folded("subject", attribute)):
            has = shown(subject.subject_name(attribute))
            return _note(notes, f"the certificate's {attribute} must be {patterns} and is {has}", path, False)
    return _note(notes, "a certificate is required and there is a valid one", path, True)
