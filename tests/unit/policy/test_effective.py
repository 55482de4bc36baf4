"""What several roles amount to together, setting by setting, and which resource policies apply."""

from dataclasses import fields, replace
from ipaddress import ip_address, ip_network

import pytest

from lockgate.model.access_rule import AccessRule
from lockgate.model.decision import Reason
from lockgate.model.policy import (
    AccessPolicy,
    AppliesTo,
    Bandwidth,
    Bookmark,
    ConnectionProfile,
    Role,
    SessionOptions,
    SplitNetworks,
    UiOptions,
    VpnOptions,
)
from lockgate.policy.effective import effective
from tests.unit.policy.people import policy

MERGED = [
    # section, setting, of role A, of role B, merged
    ("session", "length_seconds", 3600, 7200, 7200),
    ("session", "idle_seconds", 600, 900, 900),
    ("session", "idle_seconds", 600, 0, 0),  # never
    ("session", "heartbeat_timeout_seconds", 60, 30, 60),
    ("session", "heartbeat_timeout_seconds", 60, 0, 0),
    ("session", "reminder_seconds", 0, 300, 300),
    ("session", "allow_extension", False, True, True),
    ("session", "extension_limit_seconds", 86400, 0, 0),
    ("session", "persistent_password_caching", False, True, True),
    ("session", "upload_logs", False, True, True),
    ("session", "flow_records", "none", "denied", "denied"),
    ("session", "flow_records", "denied", "all", "all"),
    ("session", "roaming", "disabled", "limit-to-subnet", "limit-to-subnet"),
    ("session", "roaming", "limit-to-subnet", "enabled", "enabled"),
    ("session", "roaming", "disabled", "enabled", "enabled"),
    ("session", "roaming_prefix4", 24, 16, 16),
    ("session", "roaming_prefix6", 64, 48, 48),
    ("vpn", "split_tunneling", "disabled", "enabled", "enabled"),
    ("vpn", "local_subnet_access", False, True, True),
    # Protections hold when one role asks for them.
    ("vpn", "route_precedence", "endpoint", "tunnel", "tunnel"),
    ("vpn", "route_monitor", False, True, True),
    ("vpn", "traffic_enforcement_ipv4", False, True, True),
    ("vpn", "traffic_enforcement_ipv6", False, True, True),
    ("vpn", "auto_launch", False, True, True),
    ("vpn", "component_set", "", "Field", "Field"),
]
MERGED_SETTINGS = {(section, setting) for section, setting, *_ in MERGED}


@pytest.mark.parametrize(("section", "setting", "of_a", "of_b", "merged"), MERGED)
def test_merging(section, setting, of_a, of_b, merged):
    plain = {"session": SessionOptions(), "vpn": VpnOptions()}[section]
    a, b = (
        replace(Role(name), **{section: replace(plain, **{setting: value})})
        for name, value in (("A", of_a), ("B", of_b))
    )
    for order in (["A", "B"], ["B", "A"]):
        result = effective(policy(a, b), order)
        options = result.session if section == "session" else result.vpn_options
        assert options == replace(plain, **{setting: merged})
        winner = "A" if merged == of_a else "B"
        [reason] = [each for each in result.reasons if each.path.endswith(f"/{section}/{setting}")]
        assert reason.path == f"roles/{winner}/{section}/{setting}"
        assert f"(role '{winner}')" in reason.text
    alone = effective(policy(a, b), ["A"])
    assert (alone.session, alone.vpn_options) == (a.session, a.vpn)


def test_every_setting_has_its_rule():
    settings = {("session", each.name) for each in fields(SessionOptions)}
    settings |= {("vpn", each.name) for each in fields(VpnOptions)}
    assert settings == MERGED_SETTINGS


def test_the_first_role_that_names_a_component_set_gives_it():
    a, b = (Role(name, vpn=VpnOptions(component_set=name)) for name in "AB")
    assert effective(policy(a, b), ["B", "A"]).vpn_options.component_set == "B"


def test_a_subnet_counts_only_for_roles_that_limit_to_one():
    a = Role("A", session=SessionOptions(roaming="limit-to-subnet", roaming_prefix4=24))
    b = Role("B", session=SessionOptions(roaming="disabled", roaming_prefix4=8))
    merged = effective(policy(a, b), ["A", "B"]).session
    assert (merged.roaming, merged.roaming_prefix4) == ("limit-to-subnet", 24)


def test_features_count_when_one_role_has_them_and_options_only_of_those_roles():
    web = Role("Web", vpn_tunneling=False, vpn=VpnOptions(split_tunneling="enabled"))
    vpn = Role("VPN", web=False, bookmarks=(Bookmark("Hidden", "", "https://h/"),))
    mine = policy(web, vpn, access=(AccessPolicy(AccessRule("r", True, ())),))
    both = effective(mine, ["Web", "VPN"])
    assert (both.web, both.vpn, both.bookmarks) == (True, True, ())
    assert both.vpn_options.split_tunneling == "disabled"
    assert [rule.name for rule in both.access] == ["r"]
    only = effective(mine, ["Web"])
    assert (only.web, only.vpn, only.access) == (True, False, ())
    assert "VPN Tunneling is off: no role has it" in [reason.text for reason in only.reasons]


def test_bookmarks_of_ones_own_need_one_role_with_web():
    a, b = Role("A"), Role("B", own_bookmarks=True)
    both = effective(policy(a, b), ["A", "B"])
    assert both.own_bookmarks
    assert (
        Reason("own_bookmarks is on: one role is enough (role 'B')", "roles/B/web_options/own_bookmarks")
        in both.reasons
    )
    assert not effective(policy(a, b), ["A"]).own_bookmarks
    assert not effective(policy(a, replace(b, web=False)), ["A", "B"]).own_bookmarks


def test_the_portal_looks_as_the_first_role_says_and_has_the_bookmarks_of_all():
    mail, other = Bookmark("Mobile Webmail", "", "https://m/"), Bookmark("Mobile Webmail", "", "https://n/")
    wiki, again = Bookmark("Wiki", "one", "https://w/"), Bookmark("Wiki", "two", "https://w/")
    a = Role("A", ui=UiOptions(title="a"), bookmarks=(wiki, mail))
    b = Role("B", ui=UiOptions(title="b"), bookmarks=(other, again))
    result = effective(policy(a, b), ["B", "A"])
    assert result.ui.title == "b"
    assert result.bookmarks == (other, again, mail)
    assert effective(policy(a, b), ["A", "B"]).bookmarks == (wiki, mail, other)
    assert "the portal looks as the first role 'B' says" in [reason.text for reason in result.reasons]


def test_without_roles_there_is_nothing():
    result = effective(policy(Role("A"), access=(AccessPolicy(AccessRule("r", True, ())),)), ["gone"])
    assert (result.roles, result.web, result.vpn, result.access, result.bookmarks) == (
        (),
        False,
        False,
        (),
        (),
    )


SELECTED, EXCEPT = AppliesTo("selected", frozenset({"A", "B"})), AppliesTo("except", frozenset({"A", "B"}))
APPLIES = [
    (AppliesTo(), ["C"], True),
    (SELECTED, ["A"], True),
    (SELECTED, ["C", "B"], True),
    (SELECTED, ["C"], False),
    (AppliesTo("selected"), ["A"], False),
    (EXCEPT, ["C"], True),
    (EXCEPT, ["A"], False),
    (EXCEPT, ["C", "A"], False),  # whoever has one of them is outside
    (AppliesTo("except"), ["A"], True),
]


@pytest.mark.parametrize(("applies", "roles", "expected"), APPLIES)
def test_to_whom_policies_apply(applies, roles, expected):
    mine = policy(
        *(Role(name, vpn=VpnOptions(split_tunneling="enabled")) for name in "ABC"),
        access=(AccessPolicy(AccessRule("r", True, ()), applies),),
        profiles=(
            ConnectionProfile("p", dns=(ip_address("10.0.0.1"),), applies=applies),
            ConnectionProfile("rest"),
        ),
        splits=(SplitNetworks("s", True, (ip_network("10.0.0.0/8"),), applies),),
        bandwidth=(Bandwidth("b", 1000, 2000, applies), Bandwidth("rest", 1, 2)),
    )
    result = effective(mine, roles)
    assert [rule.name for rule in result.access] == (["r"] if expected else [])
    assert result.profile.name == ("p" if expected else "rest")
    assert result.includes == ((ip_network("10.0.0.0/8"),) if expected else ())
    assert (result.rate_up, result.rate_down) == ((1000, 2000) if expected else (1, 2))


def test_split_networks_add_up_and_count_only_with_split_tunnelling():
    splits = (
        SplitNetworks("one", True, (ip_network("10.0.0.0/8"),)),
        SplitNetworks("out", False, (ip_network("10.5.0.0/16"),)),
        SplitNetworks("two", True, (ip_network("fd00::/8"), ip_network("10.0.0.0/8"))),
    )
    a = Role("A", vpn=VpnOptions(split_tunneling="enabled"))
    result = effective(policy(a, Role("B"), splits=splits), ["A", "B"])
    assert result.includes == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert result.excludes == (ip_network("10.5.0.0/16"),)
    everything = effective(policy(a, Role("B"), splits=splits), ["B"])
    assert (everything.includes, everything.excludes) == ((), ())
    only_out = effective(policy(a, splits=splits[1:2]), ["A"])
    assert (only_out.includes, only_out.excludes) == ((), (ip_network("10.5.0.0/16"),))
    assert only_out.reasons[-2].text == "no networks to include apply: everything goes through the tunnel"


def test_without_profile_and_limit_there_are_defaults():
    result = effective(policy(Role("A")), ["A"])
    assert (result.profile, result.rate_up, result.rate_down) == (ConnectionProfile(), 0, 0)
    assert [reason.text for reason in result.reasons] == [
        "Web is on: role 'A' has it",
        "VPN Tunneling is on: role 'A' has it",
        "no connection profile applies",
        "no bandwidth limit applies",
    ]
