"""Somebody must be left who can sign in at the console and change everything.

Judged by the tree alone: whether a matching person exists is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from lockgate.server.config.findings import Finding
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import AdminRealm, UserNameCondition


def judge(tree: Configuration) -> Iterator[Finding]:
    reachable = {
        name
        for policy in tree.sign_in_policies
        if policy.enabled and policy.user_type == "administrators"
        for name in policy.admin_realms
    }
    if not reachable:
        yield Finding(
            ("sign_in_policies",),
            "no administrator could sign in any more: no enabled policy is for administrators",
            'an enabled policy with user_type = "administrators" and a realm of administrators',
        )
        return
    powerful = {role.name for role in tree.admin_roles if role.administrators == "write"}
    if not powerful:
        yield Finding(
            ("admin_roles",),
            'nobody could change administrators any more: no role has administrators = "write"',
            'a role with administrators = "write"',
        )
        return
    if not any(
        _lets_in(tree, realm) and _gives(realm, powerful)
        for realm in tree.admin_realms
        if realm.name in reachable
    ):
        yield Finding(
            ("admin_realms",),
            "no administrator would have full power any more",
            "a realm that an enabled sign-in policy names, that lets somebody in, and whose rules give a role "
            'with administrators = "write"',
        )


def _lets_in(tree: Configuration, realm: AdminRealm) -> bool:
    policy = realm.policy
    for judged in (policy.source, policy.browser):
        if judged.otherwise == "deny" and not any(rule.action == "allow" for rule in judged.rules):
            return False
    if policy.certificate.require == "required":
        return tree.gateway.client_certificates == "ask" and bool(tree.certificates.trusted_client_cas)
    return True


def _gives(realm: AdminRealm, powerful: set[str]) -> bool:
    for rule in realm.rules:
        if powerful.intersection(rule.roles):
            return True
        everybody = (
            isinstance(rule.condition, UserNameCondition)
            and not rule.condition.negate
            and "*" in rule.condition.values
        )
        if rule.stop and everybody:
            return False
    return False
