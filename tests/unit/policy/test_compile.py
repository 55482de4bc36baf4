"""From the tree to the policy: everything decisions need arrives, in the form they need."""

from dataclasses import fields
from ipaddress import ip_address, ip_network

import pytest

from lockgate.model import policy as model
from lockgate.model.access_rule import AccessRule, AddressRange, PortRange
from lockgate.model.pattern import Patterns
from lockgate.policy import access
from lockgate.policy.effective import effective
from lockgate.policy.expressions import ExpressionError, parse
from lockgate.policy.role_mapping import map_roles
from lockgate.policy.sign_in import find
from lockgate.server.config.compile import compile_policy
from lockgate.server.config.defaults import default_configuration
from lockgate.server.config.seed.access import access_rules
from lockgate.server.config.seed.convert import convert
from lockgate.server.config.seed.tree import Seed
from lockgate.server.config.tree import Configuration, users
from lockgate.server.config.tree.system import Gateway
from lockgate.server.config.values import parse_endpoint
from tests.unit.policy.people import ALICE, NOW


def tree(**changes) -> Configuration:
    gateway = Gateway(
        hostname="gw.example.com",
        listen=(parse_endpoint("192.0.2.1:443"),),
        admin_listen=parse_endpoint("127.0.0.1:8443"),
    )
    data = default_configuration(gateway, lambda: "0" * 32).model_dump(mode="json")
    return Configuration.model_validate(data | changes)


def test_a_new_gateways_user_signs_in_and_reaches_what_is_behind_it_and_nobody_else():
    policy = compile_policy(tree(), 1)
    found = find(policy.sign_in_policies, "users", "gw.example.com", "/").policy
    assert found is not None
    realm = policy.realms[found.realms[0]]
    mine = effective(policy, map_roles(policy, realm, ALICE, NOW).roles)
    rules = access.compile_rules(mine.access, policy.reserved)
    reached = {
        address: access.explain(rules, access.TCP, ip_address(address), 443).allow
        for address in ("203.0.113.9", "2001:db8::9", "10.88.0.7", "192.0.2.1")
    }
    assert reached == {"203.0.113.9": True, "2001:db8::9": True, "10.88.0.7": False, "192.0.2.1": False}
    admin = find(policy.sign_in_policies, "administrators", "gw", "/admin/").policy
    assert admin is not None
    admins = policy.admin_realms[admin.realms[0]]
    [role] = map_roles(policy, admins, ALICE, NOW).roles
    assert set(policy.admin_roles[role].rights.values()) == {"write"}
    assert set(policy.admin_roles[role].rights) >= {"system", "administrators", "logs"}


def test_access_control():
    policy = compile_policy(
        tree(
            access_control=[
                {
                    "name": "site",
                    "action": "allow",
                    "to": ["10.77.0.0/16", "Intranet.Example.com.", "intranet.example.com"],
                    "protocol": "tcp",
                    "ports": ["443", "8000-8100"],
                    "applies": {"to": "except", "roles": ["Users"]},
                },
                {"name": "gre", "action": "deny", "to": ["::/0"], "protocol": 47},
                {"name": "ping", "action": "allow", "to": ["10.0.0.0/8"], "protocol": "icmp"},
            ]
        ),
        3,
    )
    assert policy.revision == 3
    assert policy.access == (
        model.AccessPolicy(
            AccessRule(
                "site",
                True,
                (ip_network("10.77.0.0/16"),),
                access.TCP,
                (PortRange(443, 443), PortRange(8000, 8100)),
                ("intranet.example.com",),
            ),
            model.AppliesTo("except", frozenset({"Users"})),
        ),
        model.AccessPolicy(AccessRule("gre", False, (ip_network("::/0"),), 47)),
        model.AccessPolicy(AccessRule("ping", True, (ip_network("10.0.0.0/8"),), "icmp")),
    )
    assert policy.names == {"intranet.example.com"}
    assert policy.reserved == (ip_network("10.88.0.0/16"), ip_network("192.0.2.1/32"))


def test_names_of_split_networks_are_resolved_and_the_gateways_own_with_them():
    entries = [
        {
            "name": "in",
            "networks": ["10.77.0.0/16", "Files.example.com.", "10.76.0.0/16", "wiki.example.com"],
        },
        {"name": "out", "action": "exclude", "networks": ["meet.example.net"]},
    ]
    policy = compile_policy(tree(split_tunneling_networks=entries), 1)
    assert [(each.include, each.names) for each in policy.splits] == [
        (True, ("files.example.com", "wiki.example.com")),
        (False, ("meet.example.net",)),
    ]
    assert policy.splits[0].networks == (ip_network("10.77.0.0/16"), ip_network("10.76.0.0/16"))
    assert policy.names == {"files.example.com", "wiki.example.com", "meet.example.net", "gw.example.com"}
    assert compile_policy(tree(), 1).names == frozenset()


def test_resource_policies():
    policy = compile_policy(
        tree(
            connection_profiles=[
                {
                    "name": "p",
                    "addresses": ["10.88.4.0/24", "10.88.1.10-10.88.1.99"],
                    "transport": "ssl",
                    "mtu": 1300,
                    "dns": ["10.0.0.53"],
                    "search_domains": ["example.com"],
                    "proxy": {"mode": "manual", "server": "proxy:3128"},
                    "applies": {"to": "selected", "roles": ["Users"]},
                }
            ],
            split_tunneling_networks=[{"name": "out", "action": "exclude", "networks": ["10.9.0.0/16"]}],
            bandwidth=[{"name": "slow", "up_kbit": 3, "down_kbit": 0}],
        ),
        1,
    )
    [profile], [split], [bandwidth] = policy.profiles, policy.splits, policy.bandwidth
    assert profile == model.ConnectionProfile(
        "p",
        (ip_network("10.88.4.0/24"), AddressRange(ip_address("10.88.1.10"), ip_address("10.88.1.99"))),
        "ssl",
        1300,
        (ip_address("10.0.0.53"),),
        ("example.com",),
        model.ClientProxy("manual", "", "proxy:3128"),
        model.AppliesTo("selected", frozenset({"Users"})),
    )
    assert split == model.SplitNetworks("out", False, (ip_network("10.9.0.0/16"),))
    assert bandwidth == model.Bandwidth("slow", 3000, 0)


def test_roles_have_all_their_settings():
    """A setting that the tree gets is one the policy has too, or this says which."""
    for kind, section in (
        (model.SessionOptions, users.SessionOptions),
        (model.UiOptions, users.UiOptions),
        (model.VpnOptions, users.VpnOptions),
        (model.ClientProxy, users.ClientProxy),
        (model.Bookmark, users.Bookmark),
    ):
        assert {each.name for each in fields(kind)} == set(section.model_fields), kind
    defaults = compile_policy(tree(roles=[{"name": "R"}]), 1).roles["R"]
    assert defaults == model.Role("R")  # the same defaults on both floors
    role = compile_policy(
        tree(
            roles=[
                {
                    "name": "R",
                    "web": False,
                    "session": {"idle_seconds": 77, "roaming": "disabled", "flow_records": "none"},
                    "ui": {"title": "T"},
                    "vpn": {"split_tunneling": "enabled", "auto_launch": True},
                    "web_options": {"bookmarks": [{"name": "M", "url": "https://m/", "new_window": False}]},
                    "restrictions": {
                        "source": {
                            "rules": [{"network": "10.0.0.0/8", "action": "deny"}],
                            "otherwise": "deny",
                        },
                        "browser": {"rules": [{"pattern": "a*"}], "otherwise": "deny"},
                        "certificate": {
                            "require": "required",
                            "attributes": [{"attribute": "OU", "values": ["x"]}],
                        },
                    },
                }
            ]
        ),
        1,
    ).roles["R"]
    assert (role.web, role.session.idle_seconds, role.session.roaming) == (False, 77, "disabled")
    assert role.session.flow_records == "none"
    system = compile_policy(tree(roles=[{"name": "R"}], log={"flows": "all"}), 1)
    assert system.roles["R"].session.flow_records == "all"
    assert (role.ui.title, role.vpn.split_tunneling, role.vpn.auto_launch) == ("T", "enabled", True)
    assert role.bookmarks == (model.Bookmark("M", "", "https://m/", False),)
    limits = role.restrictions
    assert limits.source == model.SourcePolicy((model.SourceRule(ip_network("10.0.0.0/8"), False),), False)
    assert (limits.browser.rules[0].allow, limits.browser.otherwise) == (True, False)
    assert limits.certificate == model.CertificateRequirement("required", (("OU", Patterns.of(["x"])),))


def realm(**changes):
    everybody = {"name": "r", "condition": {"kind": "user", "values": ["*"]}, "roles": ["Users"]}
    return {"name": "Users", "server": "System Local", "rules": [everybody], **changes}


def test_realms():
    conditions = [
        ({"kind": "user", "values": ["a*"]}, model.UserNameCondition(Patterns.of(["a*"]))),
        (
            {"kind": "group", "values": ["g"], "negate": True},
            model.GroupCondition(Patterns.of(["g"]), True),
        ),
        (
            {"kind": "attribute", "attribute": "m", "values": ["g"]},
            model.AttributeCondition("m", Patterns.of(["g"])),
        ),
        (
            {"kind": "certificate", "attribute": "OU", "values": ["g"], "negate": True},
            model.CertificateCondition("OU", Patterns.of(["g"]), True),
        ),
        (
            {"kind": "expression", "text": "time.hour = 3"},
            model.ExpressionCondition(parse("time.hour = 3"), "time.hour = 3"),
        ),
    ]
    rules = [
        {"name": f"r{number}", "condition": written, "roles": ["Users"], "stop": number == 1}
        for number, (written, _) in enumerate(conditions)
    ]
    limits = {
        "limits": {"max_sessions_per_user": 2, "max_users": 9},
        "password": {"minimum_length": 12},
    }
    mine = realm(rules=rules, policy=limits, when_several="choose-rule", directory="Administrators")
    compiled = compile_policy(tree(realms=[mine]), 1).realms["Users"]
    assert [rule.condition for rule in compiled.rules] == [condition for _, condition in conditions]
    assert [rule.stop for rule in compiled.rules] == [False, True, False, False, False]
    assert (compiled.max_sessions_per_user, compiled.max_users, compiled.minimum_length) == (2, 9, 12)
    assert (compiled.when_several, compiled.server, compiled.directory) == (
        "choose-rule",
        "System Local",
        "Administrators",
    )
    assert compiled.uses_time
    plain = compile_policy(tree(realms=[realm()]), 1).realms["Users"]
    assert (plain.directory, plain.uses_time, plain.path) == ("System Local", False, "realms/Users")


def test_an_expression_that_does_not_parse_is_never_taken_for_one():
    rule = {"name": "r", "condition": {"kind": "expression", "text": "group = "}, "roles": ["Users"]}
    with pytest.raises(ExpressionError):
        compile_policy(tree(realms=[realm(rules=[rule])]), 1)


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("*/", "*", "/"),
        ("/", "", "/"),
        ("*.Example.com/staff/", "*.example.com", "/staff/"),
        ("VPN.example.com/a/b/", "vpn.example.com", "/a/b/"),
    ],
)
def test_sign_in_policies(url, host, path):
    entry = {"name": "p", "url": url, "realms": ["Users"], "admin_realms": ["Admin Users"]}
    options = {"realm_by_suffix": True, "strip_suffix": False, "fail_without_suffix": True}
    both = [entry | options, entry | {"name": "q", "user_type": "administrators", "enabled": False}]
    users_policy, admin_policy = compile_policy(tree(sign_in_policies=both), 1).sign_in_policies
    assert (users_policy.host, users_policy.path, users_policy.realms) == (host, path, ("Users",))
    assert (users_policy.audience, users_policy.enabled) == ("users", True)
    assert (
        users_policy.realm_by_suffix,
        users_policy.strip_suffix,
        users_policy.fail_without_suffix,
    ) == (True, False, True)
    assert (admin_policy.audience, admin_policy.realms, admin_policy.enabled) == (
        "administrators",
        ("Admin Users",),
        False,
    )


@pytest.mark.parametrize(
    ("included", "reached"),
    [
        ([], ["0.0.0.0/0", "::/0"]),
        (["10.77.0.0/16", "10.88.4.0/24", "192.0.2.1/32"], ["10.77.0.0/16"]),
        (["10.88.0.0/16"], []),
    ],
)
def test_a_file_without_rules_becomes_a_rule_that_opens_nothing_reserved(included, reached):
    """The rule that such a file implied never reached other sessions; the one written down for it does not either."""
    file = Seed.model_validate(
        {
            "gateway": {"hostname": "gw.example.com", "listen": ["192.0.2.1:443"]},
            "network": {"split_include": included},
        }
    )
    policy = compile_policy(convert(file, lambda: "0" * 32), 1)
    networks = [str(network) for each in policy.access for network in each.rule.networks]
    assert networks == reached
    assert [str(entry.origin.networks) for entry in access_rules(file).compiled] == [
        str(each.rule.networks) for each in policy.access for _ in each.rule.networks
    ]
