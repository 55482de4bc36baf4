"""Any JSON value is a tree, or findings that name setting, value, reason and what is allowed."""

import copy
import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockgate.model.problem import ProblemError
from lockgate.server.config import edits
from lockgate.server.config.bounds import MAX_DEPTH, MAX_VALUES, read_json
from lockgate.server.config.checks import validate
from lockgate.server.config.registry import AREAS, PAGES, area_of, page_of
from lockgate.server.config.schema import ROOT, Node, children
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import AdminRole
from tests.unit.server.config.support import default_tree, json_values, plain, small_tree

BASE = small_tree()
SET, INSERT, REMOVE = edits.SetValue, edits.Insert, edits.Remove


def test_the_default_tree_has_no_findings():
    checked = validate(plain(default_tree()))
    assert checked.findings == ()
    assert checked.configuration is not None


OTHER = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
ADMINS = "admin_realms/Admin Users"
RULE = {"condition": {"kind": "user", "values": ["*"]}, "roles": ["Users"]}
CONNECTION = "connection_sets/Default/connections/Default connection"

WRONG = [
    # edit, path, words of the finding
    (SET("network/mtu", 100), "network/mtu", "100 is not allowed; allowed: a whole number from 576 to 9000 (bytes)"),
    (SET("network/mtu", "1400"), "network/mtu", '"1400" is not allowed'),
    (SET("network/mtu", True), "network/mtu", "true is not allowed"),
    (SET("network", 5), "network", "5 is not a table; allowed: a table network"),
    (SET("roles", {}), "roles", "a table of 0 keys is not a list"),
    (SET("roles/Staff", {"nme": 1}), "roles/Staff/nme", "is not a known key; did you mean name?"),
    (SET("roles/Staff/session", {"idle": 1}), "roles/Staff/session/idle", "is not a known key"),
    (SET("gateway/listen", ["192.0.2.1"]), "gateway/listen/0", "names no port; write 192.0.2.1:443"),
    (SET("gateway/listen", []), "gateway/listen", "the list has 0 entries"),
    (SET("gateway/hostname", [[]]), "gateway/hostname", "a list of 1 entries is not a text"),
    (SET("realms/Users/server", "Nowhere"), "realms/Users/server", 'there is no "Nowhere" in auth_servers'),
    (SET("realms/Users/server", ""), "realms/Users/server", "cannot be a name"),
    (REMOVE("roles/Staff"), "realms/Users/rules/Staff/roles", 'there is no "Staff" in roles'),
    (REMOVE("roles/Staff"), "access_control/Printers/applies/roles", 'there is no "Staff" in roles'),
    (SET("realms/Users/rules/Staff/roles", ["Staff", "Staff"]), "realms/Users/rules/Staff/roles", "stands there twice"),
    (SET("realms/Users/rules/Staff/roles", ["Staf"]), "realms/Users/rules/Staff/roles", '"Staff", or another name'),
    (SET("realms/Users/rules/Staff/condition", {"kind": "users"}), "realms/Users/rules/Staff/condition/kind", '"users" is not allowed; allowed: one of "user", "group"'),
    (SET("realms/Users/rules/Staff/condition", {"kind": "expression", "txt": 1}), "realms/Users/rules/Staff/condition/txt", "did you mean text?"),
    (SET("realms/Users/rules/Staff/condition", {}), "realms/Users/rules/Staff/condition/kind", "is missing"),
    (SET("realms/Users/rules/Staff/condition", {"kind": "group", "values": []}), "realms/Users/rules/Staff/condition/values", "the list has 0 entries"),
    (SET("realms/Users/rules/Staff/condition", {"kind": "expression", "text": "group ="}), "realms/Users/rules/Staff/condition/text", "at character"),
    (SET("gateway/listen", ["192.0.2.1:443", "192.0.2.1:443"]), "gateway/listen/1", "taken already by 192.0.2.1:443"),
    (SET("gateway/admin_listen", "127.0.0.1:443"), "gateway/admin_listen", "is where clients connect (0.0.0.0:443)"),
    (SET("network/pools", ["10.88.0.0/31"]), "network/pools/0", "has no room for a client"),
    (SET("network/pools", ["10.88.0.0/16", "10.88.1.0/24"]), "network/pools/1", "overlaps the pool 10.88.0.0/16"),
    (SET("network/pools", ["127.0.0.0/8"]), "network/pools/0", "is not a network for hosts"),
    (INSERT("connection_profiles/P", {"addresses": ["10.99.0.0/24"]}), "connection_profiles/P/addresses/0", "not inside the client networks"),
    (INSERT("connection_profiles/P", {"addresses": ["10.88.1.5", "10.88.1.0/24"]}), "connection_profiles/P/addresses/1", "addresses of an earlier entry"),
    (INSERT("connection_profiles/P", {"dns": ["10.1.1.1", "10.1.1.1"]}), "connection_profiles/P/dns/1", "stands there twice"),
    (INSERT("connection_profiles/P", {"proxy": {"mode": "pac"}}), "connection_profiles/P/proxy/pac_url", "needs"),
    (INSERT("connection_profiles/P", {"proxy": {"mode": "manual", "server": "a b:1"}}), "connection_profiles/P/proxy/server", "needs"),
    (INSERT("connection_profiles/P", {"mtu": 9000}), "connection_profiles/P/mtu", "more than the tunnel interface takes"),
    (INSERT("split_tunneling_networks/S", {"networks": ["10.1.0.0/16", "10.1.0.0/16"]}), "split_tunneling_networks/S/networks/1", "stands there twice"),
    (INSERT("split_tunneling_networks/S", {"action": "exclude", "networks": ["10.88.4.0/24"]}), "split_tunneling_networks/S/networks/0", "answers would miss the tunnel"),
    (INSERT("split_tunneling_networks/S", {"networks": [f"10.{n}.0.0/16" for n in range(256)]}), "split_tunneling_networks", "256 IPv4 networks"),
    (INSERT("split_tunneling_networks/S", {"networks": [f"10.{n}.0.0/16" for n in range(200)] + [f"n{n}.example.org" for n in range(56)]}), "split_tunneling_networks", "256 IPv4 networks and names"),
    (INSERT("split_tunneling_networks/S", {"networks": ["Files.example.org", "files.example.org."]}), "split_tunneling_networks/S/networks/1", "files.example.org stands there twice"),
    (INSERT("split_tunneling_networks/S", {"networks": ["gw.example.org"]}), "split_tunneling_networks/S/networks/0", "is this gateway"),
    (INSERT("split_tunneling_networks/S", {"networks": ["*.example.org"]}), "split_tunneling_networks/S/networks/0", "name each host, or give the networks"),
    (INSERT("split_tunneling_networks/S", {"action": "exclude", "networks": ["10.1.2.3"]}), "split_tunneling_networks/S/networks/0", "neither a network such as"),
    (SET("access_control/DNS/ports", ["53"]), "access_control/DNS/ports", "has no ports to check"),
    (SET("access_control/DNS", {"action": "deny", "protocol": "tcp", "to": [f"10.0.{n}.0/24" for n in range(65)], "ports": [str(n) for n in range(1, 65)]}), "access_control", "4166 combinations"),
    (SET("sign_in/guard/lock_seconds_max", 1), "sign_in/guard/lock_seconds_max", "less than lock_seconds (60)"),
    (SET("sign_in/argon2", {"memory_kib": 64, "parallelism": 64}), "sign_in/argon2/memory_kib", "too little for 64 lanes"),
    (INSERT("sign_in_policies/P", {"url": "*/", "realms": ["Users"]}), "sign_in_policies/P/url", 'is the URL of the sign-in policy "Default users" already'),
    (INSERT("sign_in_policies/P", {"url": "*/x/"}), "sign_in_policies/P/realms", "no realm is named"),
    (SET("sign_in_pages/Default Sign-In Page/kind", "custom"), "sign_in_pages/Default Sign-In Page/templates", "needs its uploaded templates"),
    (INSERT("certificates/trusted_client_cas/CA", {"certificate": OTHER}), "certificates/trusted_client_cas/CA/certificate", "no certificate in PEM"),
    (INSERT("certificates/trusted_server_cas/CA", {"certificate": "x PRIVATE KEY x"}), "certificates/trusted_server_cas/CA/certificate", "private key"),
    (SET("push_targets/other/ca", "x"), "push_targets/other/ca", "no certificate in PEM"),
    (SET("push_targets/other/url", "http://x"), "push_targets/other/url", "is not allowed; allowed: an https:// address"),
    (SET(f"{CONNECTION}/urls", ["http://x"]), f"{CONNECTION}/urls/0", "is no https:// address"),
    (SET(f"{CONNECTION}/urls", ["https://u:p@x/"]), f"{CONNECTION}/urls/0", "more than a host, a port and a page"),
    (SET(f"{CONNECTION}/policy", "location"), f"{CONNECTION}/location_rules", "never connects"),
    (SET(f"{CONNECTION}/location_rules", [{"name": "a", "addresses": ["x"]}]), f"{CONNECTION}/location_rules/a/addresses/0", "no address or range"),
    (SET("connection_sets/Default/connections", [{"name": "a", "guid": BASE["connection_sets"][0]["guid"]}]), "connection_sets/Default/connections/a/guid", "is the identity of the set"),
    # Lock-out: somebody must be left who can repair it.
    (SET("sign_in_policies/Default administrators/enabled", False), "sign_in_policies", "no administrator could sign in any more"),
    (REMOVE("sign_in_policies/Default administrators"), "sign_in_policies", "no administrator could sign in any more"),
    (SET("admin_roles/.Administrators/administrators", "read"), "admin_roles", "nobody could change administrators any more"),
    (SET(f"{ADMINS}/rules", []), "admin_realms", "no administrator would have full power"),
    (SET(f"{ADMINS}/rules/Everybody/roles", [".Read-Only Administrators"]), "admin_realms", "full power"),
    (INSERT(f"{ADMINS}/rules/First", {**RULE, "roles": [".Read-Only Administrators"], "stop": True}, "Everybody"), "admin_realms", "full power"),
    (SET(f"{ADMINS}/policy/source/otherwise", "deny"), "admin_realms", "full power"),
    (SET(f"{ADMINS}/policy/certificate/require", "required"), "admin_realms", "full power"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "path", "words"), WRONG)
def test_an_error_names_setting_value_and_what_is_allowed(edit, path, words):
    data = edits.apply(BASE, [edit])
    checked = validate(data)
    assert checked.configuration is None
    found = [f"{each.wrong}; allowed: {each.allowed}" for each in checked.errors if each.field == path]
    assert any(words in text for text in found), checked.errors
    with pytest.raises(ProblemError) as caught:
        checked.require()
    assert caught.value.problem.code == "config-invalid"
    assert any(detail.startswith(path) for detail in caught.value.problem.details)


ODD = [
    (SET("roles/Staff/session/idle_seconds", 50000), "roles/Staff/session/idle_seconds", "has no effect"),
    (SET("access_control/DNS/applies/roles", []), "access_control/DNS/applies/roles", "applies to nobody"),
    (SET("access_control/DNS/to", ["2001:db8::/32"]), "access_control/DNS/to/0", "there is no IPv6 pool"),
    (SET("realms/Users/policy/certificate/require", "required"), "realms/Users/policy/certificate/require", "nobody can show a certificate"),
    (INSERT("roles/staff", {}), "roles/staff/name", 'differs from "Staff" in its case only'),
    (SET("roles/Staff/vpn/route_precedence", "endpoint"), "roles/Staff/vpn/route_precedence", "drops"),
    (SET("push_targets/other/token", ""), "push_targets/other/token", "nothing can be pushed"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "path", "words"), ODD)
def test_what_will_not_work_as_hoped_is_a_warning(edit, path, words):
    checked = validate(edits.apply(BASE, [edit]))
    assert checked.configuration is not None, checked.errors
    assert any(each.field == path and words in each.wrong for each in checked.warnings), checked.findings


def test_two_objects_of_one_name():
    twice = {**BASE, "roles": [*BASE["roles"], BASE["roles"][1]]}
    [finding] = validate(twice).errors
    assert (finding.field, finding.wrong) == ("roles/3/name", '"Staff" is the name of an earlier entry')


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


PLACES = list(places(BASE))


@given(st.sampled_from(PLACES), json_values, st.sampled_from(["replace", "delete", "rename"]))
@settings(max_examples=400, deadline=None)
def test_any_value_anywhere_is_judged(place, value, how):
    data = copy.deepcopy(BASE)
    if place:
        holder = data
        for key in place[:-1]:
            holder = holder[key]
        if how == "delete":
            del holder[place[-1]]
        elif how == "rename" and isinstance(holder, dict):
            holder[str(value)[:20]] = holder.pop(place[-1])
        else:
            holder[place[-1]] = value
    else:
        data = value
    checked = validate(data)
    assert (checked.configuration is None) == bool(checked.errors)
    for finding in checked.findings:
        text = str(finding)
        assert len(text) < 1500
        assert text.isprintable()
        assert finding.wrong
    if checked.configuration is not None:
        again = plain(checked.configuration)
        assert plain(Configuration.model_validate(again)) == again


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_value_is_judged(value):
    assert validate(value).configuration is None


def test_what_is_deep_or_giant_is_refused_by_name():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    giant = {"roles": [[] for _ in range(MAX_VALUES + 1)]}
    for value, words in (
        (deep, "nested more than"),
        ({"roles": deep}, "nested more than"),
        (giant, "too large"),
    ):
        [finding] = validate(value).errors
        assert words in finding.wrong
    for content, code in (
        (b"[" * 1_000_000, "document-too-deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "document-too-deep"),
        (b'"' + b"x" * (65 << 20) + b'"', "document-too-large"),
        (b"[" + b"1," * (5 * MAX_VALUES) + b"1]", "document-too-large"),
        (b"{" * (MAX_DEPTH + 1), "not-json"),
        (b'{"a": NaN}', "not-json"),
        (b"\xff\xfe{}", "not-json"),
        (b"1" * 5000, "not-json"),
        (b"", "not-json"),
    ):
        with pytest.raises(ProblemError) as caught:
            read_json(content)
        assert caught.value.problem.code == code
        assert len(caught.value.problem.text()) < 300
    assert read_json(json.dumps(BASE).encode()) == BASE


def test_thousands_of_errors_are_some_and_a_number():
    bad = {**BASE, "roles": [{"name": f"r{n}", "x": 1} for n in range(3000)]}
    found = validate(bad).findings
    assert len(found) < 300
    assert found[-1].wrong == "there are 2800 more errors"


# The registry: every setting has its page, every page its right.


def test_every_setting_has_a_page_and_an_area():
    assert set(AREAS) == set(Configuration.model_fields)
    assert set(AREAS.values()) <= set(AdminRole.model_fields)
    for key in children(Configuration):
        assert any(page.path.split("/")[0] == key for page in PAGES), key
    for page in PAGES:
        node = ROOT
        for part in page.path.split("/"):
            node = children(node.models[0])[part]
        assert node.kind == page.kind
        assert page.help
        assert page.title
        assert page_of(f"{page.path}/x") is page
        for part in page.parts:
            for path in filter(None, part.paths):
                inner = Node("section", node.models)
                for key in path.split("/"):
                    inner = children(inner.models[0])[key]
    assert len({page.id for page in PAGES}) == len({page.menu for page in PAGES}) == len(PAGES)


@given(st.text(string.printable, max_size=30))
def test_what_nobody_knows_belongs_to_full_power(text):
    area = area_of(text)
    assert area in AdminRole.model_fields
    assert text.partition("/")[0] in AREAS or area == "administrators"
