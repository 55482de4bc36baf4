"""What-if: who would lose and gain what, and that destinations are compared exactly."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.access_rule import AccessRule, PortRange
from lockgate.model.decision import RecordedDecision
from lockgate.model.pattern import Patterns
from lockgate.model.policy import (
    AccessPolicy,
    AdminRealm,
    AdminRole,
    AppliesTo,
    Bandwidth,
    ConnectionProfile,
    ExpressionCondition,
    GroupCondition,
    Restrictions,
    Role,
    SessionOptions,
    SourcePolicy,
    SourceRule,
    SplitNetworks,
    UserNameCondition,
    VpnOptions,
)
from lockgate.policy import access, reach
from lockgate.policy.access import ICMP, ICMPV6, TCP, UDP, compile_rules
from lockgate.policy.expressions import parse
from lockgate.policy.what_if import replay
from tests.unit.policy.people import ALICE, NOW, policy, realm, rule

STAFF, ADMINS = Role("Staff"), Role("Admins")
USERS = realm(
    rule("1", "Staff", when=GroupCondition(Patterns.of(["Staff"]))),
    rule("2", "Admins", when=UserNameCondition(Patterns.of(["root"]))),
)
INTRANET = AccessRule("Intranet", True, (ip_network("10.77.0.0/16"),))
OLD = policy(STAFF, ADMINS, users=USERS, access=(AccessPolicy(INTRANET),))

ROOT = replace(ALICE, user="root")
CAROL = replace(ALICE, user="carol", groups=("Guests",))


def recorded(facts, roles=(), *, kind="sign-in", at=NOW):
    return RecordedDecision(at.timestamp(), kind, facts, roles, bool(roles), 7)


def local(seconds):
    return datetime.fromtimestamp(seconds, NOW.tzinfo)


def compare(new, *decisions, old=OLD, resolved=MappingProxyType({})):
    decisions = decisions or (recorded(ALICE), recorded(ROOT), recorded(CAROL))
    return replay(old, replace(new, revision=8), decisions, resolved, local)


def changes(report):
    """Person by person, in a short form."""
    marks = {True: "+", False: "-", None: "~"}
    return {
        person.user: [f"{marks[each.gain]}{each.about}: {each.text}" for each in person.changes]
        for person in report.affected
    }


def with_realm(users, **rest):
    return replace(OLD, realms={users.name: users}, **rest)


def test_nothing_changes_nothing():
    report = compare(OLD)
    assert (report.replayed, report.people, report.affected, report.counts()) == (3, 3, (), {})
    assert report.lines() == ["revision 7 and revision 8: 3 decisions about 3 people, 0 affected"]


def test_sign_in_is_lost_and_gained_with_the_reason():
    closed = Restrictions(SourcePolicy((SourceRule(ip_network("192.0.2.0/24"), False),)))
    lost = compare(with_realm(replace(USERS, restrictions=closed)))
    text = "-sign-in: signing in at Users: users from 192.0.2.0/24 are denied: 192.0.2.9"
    assert changes(lost) == {"alice": [text], "root": [text]}
    assert lost.counts() == {"sign-in lost": 2}
    guests = replace(
        USERS, rules=(*USERS.rules, rule("3", "Staff", when=GroupCondition(Patterns.of(["Guests"]))))
    )
    assert changes(compare(with_realm(guests))) == {
        "carol": ["+sign-in: signing in at Users, with Staff: no role is given until now"]
    }
    assert changes(compare(replace(OLD, realms={}))) == {
        name: ["-sign-in: signing in at Users: there is no realm 'Users'"] for name in ("alice", "root")
    }


def test_roles():
    fewer = replace(USERS, rules=(replace(USERS.rules[0], roles=("Admins",)),))
    assert changes(compare(with_realm(fewer))) == {
        "alice": ["-role: role Staff", "+role: role Admins"],
        "root": ["-role: role Staff"],
    }
    restricted = replace(
        STAFF, restrictions=Restrictions(SourcePolicy((SourceRule(ip_network("192.0.2.9/32"), False),)))
    )
    gone = compare(replace(OLD, roles={"Staff": restricted, "Admins": ADMINS}))
    assert changes(gone) == {
        "alice": ["-sign-in: signing in at Users: no role is given"],
        "root": ["-role: role Staff"],
    }


def test_destinations():
    no_ssh = AccessRule("No SSH", False, (ip_network("10.77.0.0/24"),), TCP, (PortRange(22, 22),))
    new = replace(
        OLD,
        access=(
            AccessPolicy(no_ssh, AppliesTo("except", frozenset({"Admins"}))),
            AccessPolicy(replace(INTRANET, name="Renamed")),
            AccessPolicy(
                AccessRule("Wiki", True, (), TCP, (PortRange(443, 443),), ("wiki.test",)),
                AppliesTo("selected", frozenset({"Admins"})),
            ),
        ),
    )
    report = compare(new, resolved={"wiki.test": (ip_address("10.99.0.1"), ip_address("10.77.0.1"))})
    assert changes(report) == {
        "alice": [
            "-destination: rule 'Intranet' (10.77.0.0/16, any protocol), for example 10.77.0.0 tcp port 22; "
            "without it rule 'No SSH' (10.77.0.0/24, tcp port 22) decides"
        ],
        "root": [
            "+destination: rule 'Wiki' (wiki.test is 10.99.0.1, tcp port 443), for example 10.99.0.1 tcp port 443; "
            "without it no rule decides"
        ],
    }
    assert report.counts() == {"destination lost": 1, "destination gained": 1}


def test_session_options_and_features():
    new_staff = Role(
        "Staff",
        web=False,
        session=SessionOptions(length_seconds=60, idle_seconds=0, upload_logs=True),
        vpn=VpnOptions(split_tunneling="enabled"),
    )
    new = replace(
        OLD,
        roles={"Staff": new_staff, "Admins": ADMINS},
        profiles=(ConnectionProfile("P"),),
        splits=(SplitNetworks("s", True, (ip_network("10.0.0.0/8"),)),),
        bandwidth=(Bandwidth("b", 1000, 0),),
    )
    assert changes(compare(new, recorded(ALICE))) == {
        "alice": [
            "-feature: Web",
            "-session: length_seconds: 43200, then 60",
            "+session: idle_seconds: 1800, then 0",
            "~session: upload_logs: off, then on",
            "~session: split_tunneling: disabled, then enabled",
            "~session: split tunnelling includes: +10.0.0.0/8",
            "-session: rate_up: no limit, then 1000 bit/s",
            "~session: connection profile none, then P",
        ]
    }
    own = replace(OLD, roles={"Staff": replace(STAFF, own_bookmarks=True), "Admins": ADMINS})
    assert changes(compare(own, recorded(ALICE))) == {"alice": ["+feature: bookmarks of one's own"]}
    no_vpn = replace(OLD, roles={"Staff": replace(STAFF, vpn_tunneling=False), "Admins": ADMINS})
    [feature, destination] = changes(compare(no_vpn, recorded(ALICE)))["alice"]
    assert feature == "-feature: VPN Tunneling"
    assert destination.startswith("-destination: rule 'Intranet' (10.77.0.0/16, any protocol)")


def test_a_remembered_choice_is_made_again():
    choosers = replace(USERS, when_several="choose-role")
    both = replace(ROOT, groups=("Staff",))
    old = with_realm(choosers)
    assert changes(compare(old, recorded(both, ("Admins",)), old=old)) == {}
    without = with_realm(
        replace(choosers, rules=(*choosers.rules[:1], rule("3", "Other"))),
        roles={
            "Staff": STAFF,
            "Other": Role("Other"),
        },
    )
    assert changes(compare(without, recorded(both, ("Admins",)), old=old)) == {
        "root": ["-sign-in: signing in at Users: no role is given"]
    }


def test_rules_that_look_at_the_clock_are_judged_at_the_time_of_the_decision():
    text = "time in 08:00-12:00"
    morning = replace(
        USERS, rules=(rule("1", "Staff", when=ExpressionCondition(parse(text), text)),), uses_time=True
    )
    evening = NOW.replace(hour=20)
    report = compare(with_realm(morning), recorded(ALICE), recorded(ALICE, at=evening))
    assert changes(report) == {"alice": ["-sign-in: signing in at Users: no role is given"]}
    [person] = report.affected
    assert (person.decisions, person.last) == (1, evening.timestamp())


def test_administrators_are_compared_by_their_own_realms():
    admins = AdminRealm(
        name="Users",
        server="Administrators",
        directory="Administrators",
        restrictions=Restrictions(),
        rules=(rule("1", "Writers"),),
        path="admin_realms/Users",
    )
    writers = {"Writers": AdminRole("Writers", MappingProxyType({}))}
    old = replace(OLD, admin_realms={"Users": admins}, admin_roles=writers)
    decisions = (recorded(ALICE, kind="admin-sign-in"),)
    assert changes(compare(replace(old, realms={}), *decisions, old=old)) == {}
    assert changes(compare(replace(old, admin_roles={}), *decisions, old=old)) == {
        "alice": ["-sign-in: signing in at Users: no role is given"]
    }


def test_the_report_as_values_and_as_lines():
    report = compare(with_realm(replace(USERS, rules=USERS.rules[:1])), recorded(ROOT), recorded(ROOT))
    assert report.as_dict() == {
        "old": 7,
        "new": 8,
        "replayed": 2,
        "people": 1,
        "affected": [
            {
                "user": "root",
                "server": "System Local",
                "decisions": 2,
                "last": NOW.timestamp(),
                "loses": [{"about": "role", "text": "role Admins", "gain": False}],
                "gains": [],
                "differs": [],
            }
        ],
        "counts": {"role lost": 1},
        "complete": True,
    }
    assert report.lines() == [
        "revision 7 and revision 8: 2 decisions about 1 people, 1 affected",
        "  role lost: 1",
        "root (System Local), 2 decisions",
        "  - role Admins",
    ]


# A small world, so that every packet of it can be tried.
addresses = [IPv4Address(f"10.0.0.{low}") for low in range(8)] + [
    IPv6Address(f"fd00::{low}") for low in range(2)
]
packets = [(protocol, port) for protocol in (TCP, UDP) for port in range(5)]  # 4 stands for all above
packets += [(ICMP, None), (ICMPV6, None), (47, None)]
networks = st.tuples(st.integers(0, 7), st.integers(0, 3)).map(
    lambda pair: ip_network((f"10.0.0.{pair[0]}", 32 - pair[1]), strict=False)
) | st.sampled_from([ip_network("fd00::/127"), ip_network("fd00::1/128")])
ports = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda pair: PortRange(min(pair), max(pair)))
small_rules = st.builds(
    AccessRule,
    name=st.sampled_from("abc"),
    allow=st.booleans(),
    networks=st.lists(networks, min_size=1, max_size=2).map(tuple),
    protocol=st.sampled_from([TCP, UDP]),
    ports=st.lists(ports, max_size=2).map(tuple),
) | st.builds(
    AccessRule,
    name=st.sampled_from("abc"),
    allow=st.booleans(),
    networks=st.lists(networks, min_size=1, max_size=2).map(tuple),
    protocol=st.sampled_from([None, "icmp"]),
)


@st.composite
def two_sets(draw):
    """Rules before and after an edit: some kept, cut out, moved, put in."""
    old = draw(st.lists(small_rules, max_size=5))
    new = draw(st.permutations(old)) if draw(st.booleans()) else list(old)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(new)))
        if draw(st.booleans()):
            new[at : at + 1] = []
        else:
            new[at:at] = [draw(small_rules)]
    return old, new


@given(two_sets(), st.lists(networks, max_size=1), st.lists(networks, max_size=1))
def test_destinations_are_compared_as_trying_every_packet_would(sets, old_reserved, new_reserved):
    old, new = (
        compile_rules(rules, reserved)
        for rules, reserved in zip(sets, (old_reserved, new_reserved), strict=True)
    )
    lost = gained = False
    for address in addresses:
        for protocol, port in packets:
            was = access.explain(old, protocol, address, port).allow
            now = access.explain(new, protocol, address, port).allow
            lost, gained = lost or (was and not now), gained or (now and not was)
    found = reach.difference(old, new)
    assert (bool(found.lost), bool(found.gained), found.complete) == (lost, gained, True)


def test_a_comparison_that_would_take_too_long_says_so(monkeypatch):
    monkeypatch.setattr(reach, "MAX_STEPS", 10)
    many = [AccessRule(str(number), True, (ip_network(f"10.0.{number}.0/24"),)) for number in range(50)]
    assert not reach.difference(compile_rules(many, ()), compile_rules([], ())).complete


@pytest.mark.parametrize("zone", [UTC, NOW.tzinfo])
def test_the_clock_is_an_argument(zone):
    text = "time.hour = 9"
    users = realm(rule("1", "Staff", when=ExpressionCondition(parse(text), text)), uses_time=True)
    report = replay(
        policy(STAFF, users=users),
        policy(STAFF, users=realm()),
        [recorded(ALICE)],
        {},
        lambda seconds: datetime.fromtimestamp(seconds, zone),
    )
    assert bool(report.affected) is (zone is not UTC)
