"""Sign-in URLs: the most exact one decides; realms named with the user name."""

import pytest

from lockgate.model.policy import SignInPolicy
from lockgate.policy.sign_in import find, split_name


def url(text, *, name=None, audience="users", enabled=True):
    host, slash, path = text.partition("/")
    return SignInPolicy(name or text, enabled, host, slash + path, audience, "", ("Users", "Staff"))


POLICIES = [
    url("*/"),
    url("*/staff/"),
    url("*/staff/night/"),
    url("*.example.com/"),
    url("*.eu.example.com/"),
    url("*.eu.example.com/staff/"),
    url("vpn.example.com/"),
    url("vpn.example.com/closed/", enabled=False),
    url("*/admin/", audience="administrators"),
]

URLS = [
    # host, path, the URL that decides
    ("gw.test", "/", "*/"),
    ("gw.test", "", "*/"),
    ("gw.test", "/unknown", "*/"),
    ("gw.test", "/staff", "*/staff/"),
    ("gw.test", "/staff/", "*/staff/"),
    ("gw.test", "/staff/day/x", "*/staff/"),
    ("gw.test", "/staff/night", "*/staff/night/"),
    ("gw.test", "/staffroom/", "*/"),
    ("gw.test", "/Staff/", "*/"),
    ("a.example.com", "/staff/", "*.example.com/"),  # the host comes before the path
    ("example.com", "/", "*/"),
    ("a.eu.example.com", "/", "*.eu.example.com/"),
    ("a.eu.example.com", "/staff/", "*.eu.example.com/staff/"),
    ("VPN.Example.COM.", "/", "vpn.example.com/"),
    ("vpn.example.com:8443", "/x/", "vpn.example.com/"),
    ("[2001:db8::1]:443", "/staff/", "*/staff/"),
    ("2001:db8::1", "/", "*/"),
    ("vpn.example.com", "/closed/", None),
    ("vpn.example.com", "/closed/deeper", None),
    ("gw.test", "staff", None),
    ("gw.test", "//", None),
    ("gw.test", "//staff/", None),
    ("gw.test", "/staff//", None),
    ("gw.test", "/x/../staff/", None),
    ("gw.test", "/./", None),
    ("gw.test", "/staff%2f", None),
    ("gw.test", "/staff\\", None),
    ("gw.test", "/staff/\x00", None),
    ("gw.test", "/staff/\n", None),
    ("gw.test", "/" + "a" * 2000, None),
]


@pytest.mark.parametrize(("host", "path", "expected"), URLS)
@pytest.mark.parametrize("order", [1, -1])
def test_the_most_exact_url_decides(host, path, expected, order):
    found = find(POLICIES[::order], "users", host, path)
    assert (found.policy and found.policy.name) == expected
    assert found.reasons[-1].ok is (expected is not None)
    assert all(reason.text.isprintable() for reason in found.reasons)


def test_administrators_have_urls_of_their_own():
    found = find(POLICIES, "administrators", "gw.test", "/admin")
    assert found.policy is not None
    assert found.policy.audience == "administrators"
    nowhere = find(POLICIES, "administrators", "gw.test", "/")
    assert nowhere.policy is None
    assert [reason.text for reason in nowhere.reasons] == [
        "no sign-in policy for administrators answers gw.test/"
    ]
    assert find(POLICIES, "users", "gw.test", "/admin/").policy == POLICIES[0]


def test_a_url_that_is_switched_off_does_not_fall_back_to_a_wider_one():
    found = find(POLICIES, "users", "vpn.example.com", "/closed/")
    assert [(reason.text, reason.path) for reason in found.reasons] == [
        (
            "vpn.example.com/closed/ is the most exact sign-in URL for vpn.example.com/closed/",
            "sign_in_policies/vpn.example.com/closed/",
        ),
        ("this sign-in policy is switched off", "sign_in_policies/vpn.example.com/closed//enabled"),
    ]


def suffixes(**options):
    values = {"realm_by_suffix": True, **options}
    return SignInPolicy(
        "p", True, "*", "/", "users", "", ("Users", "Staff", "Night Staff", "a@Staff"), **values
    )


NAMES = [
    # options, typed, allowed, name, realm
    ({"realm_by_suffix": False, "fail_without_suffix": True}, "alice@Staff", True, "alice@Staff", None),
    ({}, "alice@Staff", True, "alice", "Staff"),
    ({}, "Staff\\alice", True, "alice", "Staff"),
    ({}, "alice@Night Staff", True, "alice", "Night Staff"),
    ({}, "alice@a@Staff", True, "alice", "a@Staff"),  # the longest that fits
    ({}, "alice@Users@Staff", True, "alice@Users", "Staff"),
    ({}, "alice", True, "alice", None),
    ({}, "alice@example.com", True, "alice@example.com", None),
    ({}, "alice@staff", True, "alice@staff", None),
    ({}, "alice@Guests", True, "alice@Guests", None),
    ({}, "@Staff", True, "@Staff", None),
    ({}, " @Staff", True, " @Staff", None),
    ({}, "", True, "", None),
    ({"strip_suffix": False}, "alice@Staff", True, "alice@Staff", "Staff"),
    ({"strip_suffix": False}, "Staff\\alice", True, "Staff\\alice", "Staff"),
    ({"fail_without_suffix": True}, "alice@Staff", True, "alice", "Staff"),
    ({"fail_without_suffix": True}, "alice", False, "alice", None),
    ({"fail_without_suffix": True}, "alice@Guests", False, "alice@Guests", None),
    ({"fail_without_suffix": True}, "@Staff", False, "@Staff", None),
]


@pytest.mark.parametrize(("options", "typed", "allowed", "name", "realm"), NAMES)
def test_realms_in_user_names(options, typed, allowed, name, realm):
    split = split_name(suffixes(**options), typed)
    assert (split.allow, split.name, split.realm) == (allowed, name, realm)
    assert bool(split.reasons) is (realm is not None or not allowed)
