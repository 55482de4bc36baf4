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


def _note(notes: list[Reason] | None, text: str, path: str, ok: bool, said: str = "") -> bool:
    """said: to the person, where it is a no."""
    if notes is not None:
        notes.append(Reason(text, path, ok, "" if ok else said))
    return ok


def _source(policy: SourcePolicy, subject: Subject, path: str, notes: list[Reason] | None) -> bool:
    if not policy.rules and policy.otherwise:
        return True
    address = subject.address
    if address is None:
        return _note(
            notes, f"the source {printable(subject.facts.source, MAX_TEXT)!r} is no address", path, False
        )
    said = f"access is not allowed from {address}"
    for rule in policy.rules:
        if address in rule.network:
            verb = "allowed" if rule.allow else "denied"
            return _note(notes, f"users from {rule.network} are {verb}: {address}", path, rule.allow, said)
    verb = "allowed" if policy.otherwise else "denied"
    text = f"no source rule covers {address}: everybody else is {verb}"
    return _note(notes, text, path, policy.otherwise, said)


def _browser(policy: BrowserPolicy, subject: Subject, path: str, notes: list[Reason] | None) -> bool:
    if not policy.rules and policy.otherwise:
        return True
    shown_agent = repr(printable(subject.facts.user_agent, MAX_TEXT))
    said = "access is not allowed with this program"
    for rule in policy.rules:
        if rule.pattern.matches(subject.user_agent):
            verb = "allowed" if rule.allow else "denied"
            text = f"browsers like {str(rule.pattern)!r} are {verb}: {shown_agent}"
            return _note(notes, text, path, rule.allow, said)
    verb = "allowed" if policy.otherwise else "denied"
    text = f"no browser rule matches {shown_agent}: all others are {verb}"
    return _note(notes, text, path, policy.otherwise, said)


def _certificate(
    requirement: CertificateRequirement, subject: Subject, path: str, notes: list[Reason] | None
) -> bool:
    if requirement.require != "required":
        return True
    if subject.certificate is None:
        said = "a client certificate is needed, and there was none"
        return _note(notes, "a certificate is required and there is none", path, False, said)
    for attribute, patterns in requirement.attributes:
        if not any(patterns.match(value) for value in subject.folded("subject", attribute)):
            has = shown(subject.subject_name(attribute))
            text = f"the certificate's {attribute} must be {patterns} and is {has}"
            return _note(notes, text, path, False, "the client certificate is not of the kind that is needed")
    return _note(notes, "a certificate is required and there is a valid one", path, True)
