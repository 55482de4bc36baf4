"""Explanations, word for word: what an administrator and the help desk read."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from lockgate.model.access_rule import AccessRule, PortRange
from lockgate.model.pattern import Patterns
from lockgate.model.policy import (
    AccessPolicy,
    AppliesTo,
    GroupCondition,
    Restrictions,
    Role,
    SourcePolicy,
    SourceRule,
    SplitNetworks,
    UserNameCondition,
    VpnOptions,
)
from lockgate.policy import why
from lockgate.policy.access import ICMP, TCP, UDP
from tests.unit.policy.people import ALICE, LOOKS, NOW, policy, realm, rule

INSIDE = Restrictions(
    SourcePolicy((SourceRule(ip_network("192.0.2.0/24"), True),), otherwise=False),
    certificate=LOOKS.certificate,
)
STAFF = Role("Staff", vpn=VpnOptions(split_tunneling="enabled"))
ADMINS, WEB = Role("Admins"), Role("Web only", vpn_tunneling=False)
WIKI = AccessRule("Wiki", True, (), TCP, (PortRange(443, 443),), ("wiki.example.com",))
NO_SSH = AccessRule("No SSH", False, (ip_network("10.77.0.0/16"),), TCP, (PortRange(22, 22),))
SERVERS = AccessRule("Servers", True, (ip_network("10.77.0.0/16"),))
POOL = ip_network("10.88.0.0/16")


def group(name):
    return GroupCondition(Patterns.of([name]))


USERS = realm(
    rule("Administrators", "Admins", when=group("Admins")),
    rule("Employees", "Staff", when=group("Staff"), stop=True),
    rule("Rest", "Web only"),
    restrictions=INSIDE,
)
POLICY = policy(
    STAFF,
    ADMINS,
    WEB,
    users=USERS,
    access=(
        AccessPolicy(WIKI),
        AccessPolicy(NO_SSH, AppliesTo("except", frozenset({"Admins"}))),
        AccessPolicy(SERVERS, AppliesTo("selected", frozenset({"Staff", "Admins"}))),
    ),
    splits=(SplitNetworks("Company", True, (ip_network("10.77.0.0/16"),)),),
    pools=(POOL,),
    reserved=(POOL,),
)
RESOLVED = {"wiki.example.com": (ip_address("10.99.0.5"), ip_address("2001:db8::5"))}


def explain(target="10.77.0.80", *, facts=ALICE, roles=None, protocol=TCP, port=443, under=POLICY):
    return why.explain(under, facts, roles, target, protocol, port, RESOLVED, NOW)


def lines(*arguments, **options):
    return explain(*arguments, **options).lines()


BEGINNING = [
    "yes users from 192.0.2.0/24 are allowed: 192.0.2.9  [realms/Users/policy/source]",
    "yes this client may try to sign in at Users  [realms/Users]",
    "no  rule 'Administrators' does not match (groups: Staff, Dev; wanted: Admins)"
    "  [realms/Users/rules/Administrators]",
    "yes rule 'Employees' matches and gives Staff (groups: Staff, Dev; wanted: Staff)"
    "  [realms/Users/rules/Employees]",
    "    rule 'Employees' stops; rules after it that are not looked at: 1  [realms/Users/rules/Employees/stop]",
    "yes roles: Staff  [realms/Users]",
    "yes VPN Tunneling is on: role 'Staff' has it  [roles/Staff/vpn_tunneling]",
]


def test_the_whole_chain_to_yes():
    assert lines() == [
        "alice from 192.0.2.9 to 10.77.0.80 tcp port 443, revision 7",
        *BEGINNING,
        "yes rule 'Servers' (10.77.0.0/16, any protocol) allows it  [access_control/Servers]",
        "yes allowed",
    ]


def test_the_whole_chain_to_no():
    explanation = explain(port=22)
    assert explanation.lines() == [
        "alice from 192.0.2.9 to 10.77.0.80 tcp port 22, revision 7",
        *BEGINNING,
        "no  rule 'No SSH' (10.77.0.0/16, tcp port 22) denies it  [access_control/No SSH]",
        "no  denied",
    ]
    assert explanation.as_dict() == {
        "question": "alice from 192.0.2.9 to 10.77.0.80 tcp port 22",
        "allow": False,
        "revision": 7,
        "reasons": [
            {"text": reason.text, "path": reason.path, "ok": reason.ok} for reason in explanation.reasons
        ],
    }


def test_a_name_is_its_addresses_and_says_what_goes_around_the_tunnel():
    assert lines("Wiki.Example.com.")[8:] == [
        "    wiki.example.com is 10.99.0.5, 2001:db8::5",
        "    10.99.0.5 is in no network that goes through the tunnel  [split_tunneling_networks]",
        "yes rule 'Wiki' (wiki.example.com is 10.99.0.5, tcp port 443) allows it  [access_control/Wiki]",
        "no  clients have no IPv6 address to reach 2001:db8::5 from  [network/pools]",
        "yes allowed",
    ]
    assert lines("gone.example.com")[8:] == [
        "no  the gateway knows no address of gone.example.com",
        "no  denied",
    ]


def test_other_sessions_are_reserved():
    wide = replace(
        POLICY, access=(AccessPolicy(AccessRule("All", True, (ip_network("0.0.0.0/0"),))),), splits=()
    )
    assert lines("10.88.0.7", protocol=UDP, port=53, under=wide)[-3:] == [
        "    rule 'All' (0.0.0.0/0, any protocol) covers 10.88.0.7, but 10.88.0.0/16 is reserved: "
        "only a rule written for it opens it  [access_control/All]",
        "no  no rule allows it  [access_control]",
        "no  denied",
    ]


def test_from_elsewhere_nobody_signs_in():
    assert lines(facts=replace(ALICE, source="203.0.113.5")) == [
        "alice from 203.0.113.5 to 10.77.0.80 tcp port 443, revision 7",
        "no  no source rule covers 203.0.113.5: everybody else is denied  [realms/Users/policy/source]",
        "no  this client may not try to sign in at Users  [realms/Users]",
        "no  denied",
    ]


def test_a_role_without_tunnel():
    assert lines(facts=replace(ALICE, groups=()))[6:] == [
        "yes roles: Web only  [realms/Users]",
        "no  VPN Tunneling is off: no role has it  [roles]",
        "no  denied",
    ]


def test_nobody_without_roles_and_no_unknown_realm():
    only_bob = realm(rule("Bob", "Staff", when=UserNameCondition(Patterns.of(["bob"]))), restrictions=INSIDE)
    assert lines(under=policy(STAFF, users=only_bob))[-2:] == [
        "no  no rule gives a role: nothing may be used  [realms/Users]",
        "no  denied",
    ]
    assert lines(facts=replace(ALICE, realm="Else\n"))[1:] == [
        "no  there is no realm 'Else\\\\x0a'  [realms]",
        "no  denied",
    ]


def test_a_live_session_keeps_its_roles_and_the_rules_are_told():
    assert lines(roles=["Staff", "Admins"], port=22)[1:] == [
        *BEGINNING[2:5],
        "yes the session has the roles Staff, Admins  [realms/Users]",
        "yes VPN Tunneling is on: role 'Staff' has it  [roles/Staff/vpn_tunneling]",
        "yes rule 'Servers' (10.77.0.0/16, any protocol) allows it  [access_control/Servers]",
        "yes allowed",
    ]
    assert lines(roles=["Gone"])[1:] == [
        *BEGINNING[2:5],
        "no  the session has the roles none  [realms/Users]",
        "no  there is no role 'Gone' any more  [roles]",
        "no  denied",
    ]


def test_where_people_choose_one_choice_is_enough_and_is_named():
    choosers = realm(rule("1", "Web only"), rule("2", "Staff"), when_several="choose-role")
    said = lines(under=replace(POLICY, realms={"Users": choosers}))
    assert said[3:] == [
        "yes rule '2' matches and gives Staff (user name: alice; wanted: *)  [realms/Users/rules/2]",
        "yes to choose from: Web only; Staff  [realms/Users/when_several]",
        "    with the choice Web only:",
        "no  VPN Tunneling is off: no role has it  [roles]",
        "    with the choice Staff:",
        "yes VPN Tunneling is on: role 'Staff' has it  [roles/Staff/vpn_tunneling]",
        "yes rule 'Servers' (10.77.0.0/16, any protocol) allows it  [access_control/Servers]",
        "yes allowed",
    ]


def test_without_a_port_rules_for_ports_do_not_count():
    assert lines("wiki.example.com", port=None)[-1] == "no  denied"
    assert "    no port was named: rules for single ports do not count" in lines(
        "wiki.example.com", port=None
    )


def test_icmp_is_that_of_the_address():
    ping = AccessRule("Ping", True, (ip_network("10.77.0.0/16"), ip_network("fd00:77::/64")), "icmp")
    both = (POOL, ip_network("fd00:88::/64"))
    under = policy(STAFF, users=realm(rule("All", "Staff")), access=(AccessPolicy(ping),), pools=both)
    for target, allow in (("10.77.0.80", True), ("fd00:77::80", True), ("fd00:78::80", False)):
        assert explain(target, protocol=ICMP, port=None, under=under).allow is allow


def test_without_a_target_the_question_is_signing_in():
    explanation = explain(None)
    assert explanation.lines()[0] == "alice from 192.0.2.9 at Users, revision 7"
    assert explanation.lines()[-4:] == [
        "    no connection profile applies  [connection_profiles]",
        "    networks of 'Company' go through the tunnel  [split_tunneling_networks/Company/applies]",
        "    no bandwidth limit applies  [bandwidth]",
        "yes allowed",
    ]


def test_what_comes_from_outside_is_printable():
    nasty = replace(ALICE, user="a\x1b[31m", source="\u202e", groups=("x\x07",))
    for target in ("\x1b]0;x\x07", "a" * 10_000):
        explanation = explain(target, facts=nasty)
        assert all(line.isprintable() for line in explanation.lines())
        assert max(map(len, explanation.lines())) < 2000
