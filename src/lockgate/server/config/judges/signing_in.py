"""Sign-in policies, realms, pages, and the expressions of role mapping."""

from __future__ import annotations

from collections.abc import Iterator

from lockgate.policy.expressions import ExpressionError, parse
from lockgate.server.config.findings import Finding, Path, shown
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import AdminRealm, ExpressionCondition, Realm, SignInPolicy


def judge(tree: Configuration) -> Iterator[Finding]:
    yield from _urls(tree)
    for policy in tree.sign_in_policies:
        yield from _policy(policy, ("sign_in_policies", policy.name))
    for page in tree.sign_in_pages:
        path: Path = ("sign_in_pages", page.name, "templates")
        if page.kind == "custom" and not page.templates:
            yield Finding(
                path, "a custom page needs its uploaded templates", 'upload an archive, or kind = "standard"'
            )
        if page.kind == "standard" and page.templates:
            yield Finding(
                path, "the templates have no effect on a standard page", 'kind = "custom"', warning=True
            )
    for realm in tree.realms:
        yield from _realm(tree, realm, ("realms", realm.name))
    for admin_realm in tree.admin_realms:
        yield from _realm(tree, admin_realm, ("admin_realms", admin_realm.name))
    for role in tree.roles:
        if role.restrictions.certificate.require == "required":
            yield from _no_certificates(tree, ("roles", role.name, "restrictions", "certificate", "require"))


def _urls(tree: Configuration) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for policy in tree.sign_in_policies:
        host, slash, rest = policy.url.partition("/")
        url = (host.lower() or "*") + slash + rest  # an empty host is any host
        if url in seen:
            yield Finding(
                ("sign_in_policies", policy.name, "url"),
                f"{policy.url} is the URL of the sign-in policy {shown(seen[url])} already",
                "every URL once",
            )
        else:
            seen[url] = policy.name


def _policy(policy: SignInPolicy, path: Path) -> Iterator[Finding]:
    users = policy.user_type == "users"
    wanted, other = ("realms", "admin_realms") if users else ("admin_realms", "realms")
    if not getattr(policy, wanted):
        yield Finding(
            (*path, wanted), "nobody can sign in there: no realm is named", f"at least one of {wanted}"
        )
    if getattr(policy, other):
        yield Finding(
            (*path, other),
            f"the realms have no effect: {policy.user_type} sign in there",
            f"an empty list, or user_type = {shown('administrators' if users else 'users')}",
            warning=True,
        )
    if policy.fail_without_suffix and not policy.realm_by_suffix:
        yield Finding(
            (*path, "fail_without_suffix"),
            "true has no effect without realm_by_suffix",
            "false, or realm_by_suffix = true",
            warning=True,
        )


def _realm(tree: Configuration, realm: Realm | AdminRealm, path: Path) -> Iterator[Finding]:
    if not realm.rules:
        yield Finding(
            (*path, "rules"),
            "nobody gets a role in this realm: it has no rules",
            "at least one",
            warning=True,
        )
    for rule in realm.rules:
        here = (*path, "rules", rule.name)
        if isinstance(rule.condition, ExpressionCondition):
            try:
                parse(rule.condition.text)
            except ExpressionError as error:
                yield Finding(
                    (*here, "condition", "text"),
                    f"at character {error.position + 1}: {error.wrong}",
                    'an expression such as group = "Staff" AND time.hour >= 8',
                )
        if not rule.roles and not rule.stop:
            yield Finding((*here, "roles"), "the rule gives no role", "at least one role", warning=True)
    if realm.policy.certificate.require == "required":
        yield from _no_certificates(tree, (*path, "policy", "certificate", "require"))


def _no_certificates(tree: Configuration, path: Path) -> Iterator[Finding]:
    if tree.gateway.client_certificates == "off":
        yield Finding(
            path,
            "nobody can show a certificate: clients are not asked for one",
            'gateway.client_certificates = "ask"',
            warning=True,
        )
    elif not any(ca.client_authentication for ca in tree.certificates.trusted_client_cas):
        yield Finding(
            path,
            "no certificate can be valid: there is no CA for client authentication",
            "a CA in certificates/trusted_client_cas",
            warning=True,
        )
