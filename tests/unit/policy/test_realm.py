"""Who may try to sign in: source, browser, certificate, length of the password."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from lockgate.model.pattern import Pattern, Patterns
from lockgate.model.policy import (
    BrowserPolicy,
    BrowserRule,
    CertificateRequirement,
    Restrictions,
    SourcePolicy,
    SourceRule,
)
from lockgate.policy.realm import may_try
from tests.unit.policy.people import ALICE, NOW, realm


def source(*rules, otherwise=True):
    return Restrictions(
        source=SourcePolicy(tuple(SourceRule(ip_network(net), allow) for net, allow in rules), otherwise)
    )


def browser(*rules, otherwise=True):
    return Restrictions(
        browser=BrowserPolicy(tuple(BrowserRule(Pattern.of(text), allow) for text, allow in rules), otherwise)
    )


def certificate(require, **attributes):
    wanted = tuple((name, Patterns.of(values)) for name, values in attributes.items())
    return Restrictions(certificate=CertificateRequirement(require, wanted))


NOBODY = replace(ALICE, certificate=None)
TRIES = [
    # restrictions, facts, allowed, the first reason
    (Restrictions(), replace(ALICE, source="?"), True, "this client may try to sign in at Users"),
    (source(("192.0.2.0/24", False)), ALICE, False, "users from 192.0.2.0/24 are denied: 192.0.2.9"),
    (
        source(("192.0.2.9/32", True), ("192.0.2.0/24", False)),
        ALICE,
        True,
        "users from 192.0.2.9/32 are allowed: 192.0.2.9",
    ),
    (
        source(("192.0.2.0/24", False)),
        replace(ALICE, source="::ffff:192.0.2.9"),
        False,
        "users from 192.0.2.0/24 are denied: 192.0.2.9",
    ),
    (
        source(("192.0.2.0/24", False)),
        replace(ALICE, source="2001:db8::9"),
        True,
        "no source rule covers 2001:db8::9: everybody else is allowed",
    ),
    (
        source(("0.0.0.0/0", True), otherwise=False),
        replace(ALICE, source="2001:db8::9"),
        False,
        "no source rule covers 2001:db8::9: everybody else is denied",
    ),
    (source(("0.0.0.0/0", True)), replace(ALICE, source="x\n"), False, "the source 'x\\\\x0a' is no address"),
    (
        browser(("*linux*", False)),
        ALICE,
        False,
        "browsers like '*linux*' are denied: 'Lockgate-Client/0.1 (Linux)'",
    ),
    (
        browser(("lockgate*", True), otherwise=False),
        ALICE,
        True,
        "browsers like 'lockgate*' are allowed: 'Lockgate-Client/0.1 (Linux)'",
    ),
    (
        browser(("Moz*", True), otherwise=False),
        ALICE,
        False,
        "no browser rule matches 'Lockgate-Client/0.1 (Linux)': all others are denied",
    ),
    (certificate("optional", OU=["Sales"]), NOBODY, True, "this client may try to sign in at Users"),
    (certificate("required"), NOBODY, False, "a certificate is required and there is none"),
    (certificate("required"), ALICE, True, "a certificate is required and there is a valid one"),
    (
        certificate("required", ou=["Sales", "fi*"], CN=["*"]),
        ALICE,
        True,
        "a certificate is required and there is a valid one",
    ),
    (
        certificate("required", CN=["*"], OU=["Sales", "Sup*"]),
        ALICE,
        False,
        "the certificate's OU must be Sales or Sup* and is Engineering, Field",
    ),
]


@pytest.mark.parametrize(("restrictions", "facts", "allowed", "why"), TRIES)
def test_may_try(restrictions, facts, allowed, why):
    decision = may_try(realm(restrictions=restrictions), facts, NOW)
    assert decision.allow is allowed
    assert decision.reasons[0].text == why
    assert decision.reasons[-1].ok is allowed


def test_who_is_signing_in_does_not_matter_yet():
    limits = certificate("required", CN=["alice"])
    nobody = replace(ALICE, user="", groups=(), attributes={})
    assert may_try(realm(restrictions=limits), nobody, NOW) == may_try(realm(restrictions=limits), ALICE, NOW)
