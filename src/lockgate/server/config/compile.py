"""From the configuration tree to the policy that decisions are made with.

The tree says what people type; the policy is the same in the form decisions need: patterns and
expressions parsed, names in mappings, rates in bits. Total for every tree that `checks` accepts.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, TypeVar

from lockgate.model import policy as model
from lockgate.model.access_rule import AccessRule, Network
from lockgate.model.pattern import Pattern, Patterns
from lockgate.model.policy import Policy
from lockgate.policy import access
from lockgate.policy.expressions import parse, uses_time
from lockgate.server.config.tree import Configuration, users
from lockgate.server.config.tree import authentication as auth
from lockgate.server.config.tree.fields import AppliesTo

T = TypeVar("T")
_N = TypeVar("_N", model.Realm, model.AdminRealm, model.Role, model.AdminRole)

PROTOCOLS: dict[int | str, int | str | None] = {
    "any": None,
    "tcp": access.TCP,
    "udp": access.UDP,
    "icmp": "icmp",
}


def compile_policy(tree: Configuration, revision: int) -> Policy:
    """The policy of one revision.

    raises: policy.expressions.ExpressionError for an expression that does not parse (`checks` refuses those).
    """
    return Policy(
        revision=revision,
        realms=_by_name(_realm(each) for each in tree.realms),
        admin_realms=_by_name(_admin_realm(each) for each in tree.admin_realms),
        roles=_by_name(_role(each, tree.log.flows) for each in tree.roles),
        admin_roles=_by_name(
            model.AdminRole(each.name, MappingProxyType({area: getattr(each, area) for area in auth.RIGHTS}))
            for each in tree.admin_roles
        ),
        sign_in_policies=tuple(_sign_in_policy(each) for each in tree.sign_in_policies),
        notifications=MappingProxyType({each.name: each.text for each in tree.sign_in_notifications}),
        access=tuple(
            model.AccessPolicy(access_rule(each), _applies(each.applies)) for each in tree.access_control
        ),
        profiles=tuple(_profile(each) for each in tree.connection_profiles),
        splits=tuple(
            model.SplitNetworks(
                each.name,
                each.action == "include",
                _networks(each.networks),
                _applies(each.applies),
                _names(each.networks),
            )
            for each in tree.split_tunneling_networks
        ),
        bandwidth=tuple(
            model.Bandwidth(each.name, each.up_kbit * 1000, each.down_kbit * 1000, _applies(each.applies))
            for each in tree.bandwidth
        ),
        pools=tree.network.pools,
        reserved=access.reserved_networks(tree.network.pools, tree.gateway.addresses),
        gateway_name=tree.gateway.hostname,
    )


def access_rule(entry: users.AccessControl) -> AccessRule:
    """One entry of access_control as a model value."""
    return AccessRule(
        name=entry.name,
        allow=entry.action == "allow",
        networks=_networks(entry.to),
        protocol=PROTOCOLS.get(entry.protocol, entry.protocol),
        ports=entry.ports,
        names=_names(entry.to),
    )


def _networks(targets: Iterable[Network | str]) -> tuple[Network, ...]:
    return tuple(target for target in targets if not isinstance(target, str))


def _names(targets: Iterable[Network | str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(target for target in targets if isinstance(target, str)))


def condition(entry: auth.Condition) -> model.Condition:
    """One condition of a role mapping rule."""
    match entry:
        case auth.UserNameCondition():
            return model.UserNameCondition(Patterns.of(entry.values), entry.negate)
        case auth.GroupCondition():
            return model.GroupCondition(Patterns.of(entry.values), entry.negate)
        case auth.AttributeCondition():
            return model.AttributeCondition(entry.attribute, Patterns.of(entry.values), entry.negate)
        case auth.CertificateCondition():
            return model.CertificateCondition(entry.attribute, Patterns.of(entry.values), entry.negate)
        case auth.ExpressionCondition():
            return model.ExpressionCondition(parse(entry.text), entry.text)


def _by_name(objects: Iterable[_N]) -> MappingProxyType[str, _N]:
    return MappingProxyType({each.name: each for each in objects})


def _same(kind: type[T], section: Any, **rest: Any) -> T:
    """A model value with the section's settings of the same names."""
    names: Iterable[str] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: getattr(section, name) for name in names if name not in rest}, **rest)


def _restrictions(entry: auth.AuthenticationPolicy | users.RoleRestrictions) -> model.Restrictions:
    return model.Restrictions(
        source=model.SourcePolicy(
            tuple(model.SourceRule(rule.network, rule.action == "allow") for rule in entry.source.rules),
            entry.source.otherwise == "allow",
        ),
        browser=model.BrowserPolicy(
            tuple(
                model.BrowserRule(Pattern.of(rule.pattern), rule.action == "allow")
                for rule in entry.browser.rules
            ),
            entry.browser.otherwise == "allow",
        ),
        certificate=model.CertificateRequirement(
            entry.certificate.require,
            tuple((each.attribute, Patterns.of(each.values)) for each in entry.certificate.attributes),
        ),
    )


def _rules(rules: Iterable[auth.RoleMappingRule]) -> tuple[model.RoleMappingRule, ...]:
    return tuple(
        model.RoleMappingRule(rule.name, condition(rule.condition), rule.roles, rule.stop) for rule in rules
    )


def _common(entry: auth.Realm | auth.AdminRealm, collection: str) -> dict[str, Any]:
    """What realms of both kinds have."""
    rules = _rules(entry.rules)
    return {
        "name": entry.name,
        "server": entry.server,
        "directory": entry.directory or entry.server,
        "restrictions": _restrictions(entry.policy),
        "rules": rules,
        "path": f"{collection}/{entry.name}",
        "minimum_length": entry.policy.password.minimum_length,
        "max_sessions_per_user": entry.policy.limits.max_sessions_per_user,
        "max_users": entry.policy.limits.max_users,
        "uses_time": any(
            isinstance(rule.condition, model.ExpressionCondition) and uses_time(rule.condition.expression)
            for rule in rules
        ),
    }


def _realm(entry: auth.Realm) -> model.Realm:
    return model.Realm(when_several=entry.when_several, **_common(entry, "realms"))


def _admin_realm(entry: auth.AdminRealm) -> model.AdminRealm:
    return model.AdminRealm(
        session_seconds=entry.session_seconds,
        idle_seconds=entry.idle_seconds,
        **_common(entry, "admin_realms"),
    )


def _role(entry: users.Role, flows: model.FlowRecords) -> model.Role:
    own = entry.session.flow_records
    return model.Role(
        name=entry.name,
        restrictions=_restrictions(entry.restrictions),
        web=entry.web,
        vpn_tunneling=entry.vpn_tunneling,
        session=_same(model.SessionOptions, entry.session, flow_records=flows if own == "system" else own),
        ui=_same(model.UiOptions, entry.ui),
        bookmarks=tuple(_same(model.Bookmark, each) for each in entry.web_options.bookmarks),
        own_bookmarks=entry.web_options.own_bookmarks,
        vpn=_same(model.VpnOptions, entry.vpn),
    )


def _sign_in_policy(entry: auth.SignInPolicy) -> model.SignInPolicy:
    host, slash, path = entry.url.partition("/")
    realms = entry.realms if entry.user_type == "users" else entry.admin_realms
    return _same(
        model.SignInPolicy,
        entry,
        host=host.lower().removesuffix("."),
        path=slash + path,
        audience=entry.user_type,
        realms=realms,
    )


def _profile(entry: users.ConnectionProfile) -> model.ConnectionProfile:
    return _same(
        model.ConnectionProfile,
        entry,
        proxy=_same(model.ClientProxy, entry.proxy),
        applies=_applies(entry.applies),
    )


def _applies(entry: AppliesTo) -> model.AppliesTo:
    return model.AppliesTo(entry.to, frozenset(entry.roles))
