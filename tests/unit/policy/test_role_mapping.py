"""Role mapping: every kind of condition and its opposite, order, stop, restrictions, choices."""

from dataclasses import replace
from ipaddress import ip_network
from types import MappingProxyType

import pytest

from lockgate.model.pattern import Pattern, Patterns
from lockgate.model.policy import (
    AdminRealm,
    AdminRole,
    AttributeCondition,
    BrowserPolicy,
    BrowserRule,
    CertificateCondition,
    CertificateRequirement,
    ExpressionCondition,
    GroupCondition,
    Restrictions,
    Role,
    SourcePolicy,
    SourceRule,
    UserNameCondition,
)
from lockgate.policy.expressions import parse
from lockgate.policy.role_mapping import MAX_UNMATCHED, map_roles, settle
from tests.unit.policy.people import ALICE, NOW, policy, realm, rule

A, B, C = Role("A"), Role("B"), Role("C")


def any_of(*texts):
    return Patterns.of(texts)


def expression(text):
    return ExpressionCondition(parse(text), text)


CONDITIONS = [
    (UserNameCondition(any_of("bob", "Ali*")), True, "user name: alice; wanted: one of bob, Ali*"),
    (UserNameCondition(any_of("bob")), False, "user name: alice; wanted: bob"),
    (UserNameCondition(any_of("bob"), True), True, "user name: alice; wanted: not bob"),
    (UserNameCondition(any_of("*"), True), False, "user name: alice; wanted: not *"),
    (GroupCondition(any_of("staff")), True, "groups: Staff, Dev; wanted: staff"),
    (GroupCondition(any_of("Admins", "Guests")), False, "groups: Staff, Dev; wanted: one of Admins, Guests"),
    (GroupCondition(any_of("Admins"), True), True, "groups: Staff, Dev; wanted: not Admins"),
    (GroupCondition(any_of("Admins", "Dev"), True), False, "groups: Staff, Dev; wanted: none of Admins, Dev"),
    (
        AttributeCondition("MAIL", any_of("*@example.org")),
        True,
        "attribute MAIL: alice@example.com, a@example.org; wanted: *@example.org",
    ),
    (AttributeCondition("phone", any_of("*")), False, "attribute phone: none; wanted: *"),
    (AttributeCondition("phone", any_of("*"), True), True, "attribute phone: none; wanted: not *"),
    (AttributeCondition("level", any_of("3"), True), False, "attribute level: 3; wanted: not 3"),
    (
        CertificateCondition("OU", any_of("eng*")),
        True,
        "certificate OU: Engineering, Field; wanted: eng*",
    ),
    (CertificateCondition("O", any_of("*")), False, "certificate O: none; wanted: *"),
    (CertificateCondition("O", any_of("*"), True), True, "certificate O: none; wanted: not *"),
    (CertificateCondition("CN", any_of("alice"), True), False, "certificate CN: alice; wanted: not alice"),
    (expression('group = "Dev"'), True, 'group = "Dev" holds: group is Staff, Dev'),
    (expression('NOT group = "Dev"'), False, 'group = "Dev" holds: group is Staff, Dev'),
]


@pytest.mark.parametrize(("condition", "matches", "why"), CONDITIONS, ids=[row[2] for row in CONDITIONS])
def test_condition(condition, matches, why):
    users = realm(rule("r", "A", when=condition))
    decision = map_roles(policy(A, users=users), users, ALICE, NOW)
    assert decision.roles == (("A",) if matches else ())
    first, last = decision.reasons[0], decision.reasons[-1]
    gives = "matches and gives A" if matches else "does not match"
    assert first.text == f"rule 'r' {gives} ({why})"
    assert (first.path, first.ok, last.ok) == ("realms/Users/rules/r", matches, matches)
    assert decision.allow is matches


def test_a_realm_that_does_not_look_at_certificates_knows_none():
    mine = rule("r", "A", when=CertificateCondition("CN", any_of("alice")))
    looks, blind = realm(mine), realm(mine, restrictions=Restrictions())
    assert map_roles(policy(A), looks, ALICE, NOW).roles == ("A",)
    assert map_roles(policy(A), blind, ALICE, NOW).roles == ()


BOB = UserNameCondition(any_of("bob"))


def test_roles_come_in_the_order_of_the_rules_and_each_once():
    users = realm(rule("1", "B", "A"), rule("2", "C", when=BOB), rule("3", "A", "C"))
    assert map_roles(policy(A, B, C), users, ALICE, NOW).roles == ("B", "A", "C")


@pytest.mark.parametrize(("when", "roles"), [(BOB, ("A", "C")), (rule("", "").condition, ("A", "B"))])
def test_stop_counts_only_where_its_rule_matches(when, roles):
    users = realm(rule("1", "A"), rule("2", "B", when=when, stop=True), rule("3", "C"))
    decision = map_roles(policy(A, B, C), users, ALICE, NOW)
    assert decision.roles == roles
    stopped = [reason.text for reason in decision.reasons if "stops" in reason.text]
    assert stopped == (
        ["rule '2' stops; rules after it that are not looked at: 1"] if roles == ("A", "B") else []
    )


def test_stop_holds_although_the_rule_gives_nothing():
    users = realm(rule("1", "gone", stop=True), rule("2", "A"))
    decision = map_roles(policy(A), users, ALICE, NOW)
    assert (decision.roles, decision.allow) == ((), False)
    assert [reason.text for reason in decision.reasons] == [
        "rule '1' matches and gives gone (user name: alice; wanted: *)",
        "role 'gone' is left out: there is no such role",
        "rule '1' stops; rules after it that are not looked at: 1",
        "no rule gives a role: nothing may be used",
    ]


def test_expressions_see_the_roles_of_earlier_rules():
    users = realm(
        rule("1", "A", when=expression('role = "B"')),
        rule("2", "B"),
        rule("3", "C", when=expression('role = "B" AND NOT role = "A"')),
    )
    assert map_roles(policy(A, B, C), users, ALICE, NOW).roles == ("B", "C")


FROM = SourcePolicy((SourceRule(ip_network("198.51.100.0/24"), True),), otherwise=False)
RESTRICTED = [
    (Restrictions(source=FROM), "no source rule covers 192.0.2.9: everybody else is denied", "source"),
    (
        Restrictions(browser=BrowserPolicy((BrowserRule(Pattern.of("*linux*"), False),))),
        "browsers like '*linux*' are denied: 'Lockgate-Client/0.1 (Linux)'",
        "browser",
    ),
    (
        Restrictions(certificate=CertificateRequirement("required", (("OU", any_of("Sales")),))),
        "the certificate's OU must be Sales and is Engineering, Field",
        "certificate",
    ),
]


@pytest.mark.parametrize(("limits", "why", "where"), RESTRICTED, ids=[row[2] for row in RESTRICTED])
def test_a_role_whose_restrictions_are_not_met_is_left_out(limits, why, where):
    users = realm(rule("1", "A", "B"), rule("2", "A"))
    decision = map_roles(policy(replace(A, restrictions=limits), B), users, ALICE, NOW)
    assert decision.roles == ("B",)
    assert [(reason.text, reason.path) for reason in decision.reasons[1:3]] == [
        (why, f"roles/A/restrictions/{where}"),
        ("role 'A' is left out: its restrictions are not met", "roles/A"),
    ]


CHOICES = [
    # mode, roles, choices
    ("merge", ("A", "B", "C"), ()),
    ("choose-role", (), (("A",), ("B",), ("C",))),
    ("choose-rule", (), (("A", "B"), ("C",))),
]


@pytest.mark.parametrize(("mode", "roles", "choices"), CHOICES, ids=[row[0] for row in CHOICES])
def test_when_several(mode, roles, choices):
    users = realm(
        rule("1", "A", "B"), rule("2", "C"), rule("3", "B", "A"), rule("4", "gone"), when_several=mode
    )
    decision = map_roles(policy(A, B, C), users, ALICE, NOW)
    assert (decision.roles, decision.choices, decision.allow) == (roles, choices, True)
    assert map_roles(policy(A, B, C), users, ALICE, NOW, explain=False) == replace(decision, reasons=())


@pytest.mark.parametrize("mode", ["choose-role", "choose-rule"])
def test_there_is_no_choice_of_one(mode):
    users = realm(rule("1", "A"), rule("2", "A"), when_several=mode)
    decision = map_roles(policy(A), users, ALICE, NOW)
    assert (decision.roles, decision.choices) == (("A",), ())


SETTLED = [
    # chosen, offers now, what is left
    (("A",), (("A",), ("B",)), ("A",)),
    (("C",), (("A",), ("B",)), ()),
    (("A", "B"), (("A", "B"), ("C",)), ("A", "B")),
    (("A", "B"), (("A", "B", "C"), ("C",)), ("A", "B")),  # nobody chose C
    (("A", "B"), (("C",), ("A",)), ("A",)),
    ((), (("A",), ("B",)), ()),
]


@pytest.mark.parametrize(("chosen", "offers", "left"), SETTLED)
def test_a_remembered_choice_shrinks_and_never_grows(chosen, offers, left):
    rules = [rule(str(number), *offer) for number, offer in enumerate(offers)]
    decision = map_roles(policy(A, B, C), realm(*rules, when_several="choose-rule"), ALICE, NOW)
    assert decision.choices == offers
    settled = settle(decision, chosen)
    assert (settled.roles, settled.choices, settled.allow) == (left, (), bool(left))
    assert set(settled.roles) <= set(chosen)


def test_without_anything_to_choose_the_decision_stays():
    decision = map_roles(policy(A), realm(rule("1", "A"), when_several="choose-role"), ALICE, NOW)
    assert settle(decision, ("B",)) is decision


def test_administrators_get_delegated_roles_and_never_choose():
    admins = AdminRealm(
        name="Admin Users",
        server="Administrators",
        directory="Administrators",
        restrictions=Restrictions(),
        rules=(rule("1", "A", "Readers"), rule("2", "Writers", when=GroupCondition(any_of("Staff")))),
        path="admin_realms/Admin Users",
        when_several="choose-role",
    )
    readers, writers = (AdminRole(name, MappingProxyType({})) for name in ("Readers", "Writers"))
    mine = policy(A, admin_roles=MappingProxyType({"Readers": readers, "Writers": writers}))
    decision = map_roles(mine, admins, ALICE, NOW)
    assert (decision.roles, decision.choices) == (("Readers", "Writers"), ())
    assert "role 'A' is left out: there is no such role" in [reason.text for reason in decision.reasons]


def test_many_rules_that_do_not_match_are_counted_and_those_that_do_are_told():
    others = [rule(f"no {number}", "B", when=BOB) for number in range(MAX_UNMATCHED + 30)]
    users = realm(*others, rule("late", "A"))
    decision = map_roles(policy(A, B), users, ALICE, NOW)
    assert decision.roles == ("A",)
    assert len(decision.reasons) == MAX_UNMATCHED + 3
    assert [reason.text for reason in decision.reasons[-3:]] == [
        "rule 'late' matches and gives A (user name: alice; wanted: *)",
        "further rules that do not match: 30",
        "roles: A",
    ]
