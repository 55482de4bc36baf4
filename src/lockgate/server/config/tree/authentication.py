"""Authentication: auth servers, realms with their policies and role mapping, sign-in URLs, pages, notifications."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lockgate.server.config.tree.fields import (
    DAY,
    MAX_TEXT,
    Name,
    Named,
    Names,
    Section,
    Texts,
    choice,
    number,
    objects,
    reference,
    references,
    setting,
    switch,
    text,
)
from lockgate.server.config.values import FromList, NetworkText


class Argon2(Section):
    """Cost of password hashes (argon2id). Hashes are renewed at the next sign-in after a change."""

    memory_kib: int = number(19456, "Memory of one hash.", 64, 4 << 20, "KiB")
    time_cost: int = number(2, "Passes over that memory.", 1, 100)
    parallelism: int = number(1, "Lanes of one hash.", 1, 64)
    concurrency: int = number(2, "Hashes worked on at the same time.", 1, 64)
    queue: int = number(256, "Sign-ins that may wait for their hash; more are told to try again.", 1, 10_000)


class Guard(Section):
    """Against password guessing. An address is judged before a user, so that nobody can lock out others."""

    window_seconds: int = number(300, "Time for which a failed attempt counts.", 10, DAY, "seconds")
    failures_per_address: int = number(
        50, "Failures in that time that lock an address (IPv6: a /64 network).", 1, 100_000
    )
    failures_per_user_and_address: int = number(
        10, "Failures in that time that lock one user name for one address.", 1, 100_000
    )
    failures_per_user: int = number(
        100,
        "Failures in that time after which a user name is slowed down for addresses it never signed in from.",
        1,
        100_000,
    )
    lock_seconds: int = number(60, "First lock; each further one is twice as long.", 1, DAY, "seconds")
    lock_seconds_max: int = number(3600, "Longest lock.", 1, DAY, "seconds")
    slow_seconds: int = number(
        10, "Pause between attempts on a user name that is slowed down.", 1, 3600, "seconds"
    )


class SignIn(Section):
    """What holds for every sign-in."""

    attempts: int = number(3, "Passwords that may be tried in one sign-in.", 1, 10)
    argon2: Argon2 = Argon2()
    guard: Guard = Guard()


class LocalServer(Named):
    """Users with their passwords, kept by this gateway."""

    kind: Literal["local"] = choice("local", "Kind of auth server.", '"local"')
    minimum_length: int = number(8, "Shortest password that may be chosen.", 1, 128, "characters")
    allow_password_change: bool = switch(True, "Users may change their own passwords.")
    user_record_synchronization: bool = switch(
        False,
        "Enable User Record Synchronization: users keep bookmarks and preferences at whichever gateway they sign in.",
    )
    logical_auth_server_name: str = setting(
        "",
        "Name under which the same users are known at the other gateways; records are exchanged by it.",
        "1 to 64 letters, digits, spaces, dots, dashes and underscores, with a letter or digit first; or empty",
        pattern=r"^(?:[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?)?$",
        max_length=64,
    )


AuthServer = LocalServer
"""Every kind of auth server; a union over `kind` once there is a second one."""


def _patterns(meaning: str, most: int = 1000) -> Any:
    return setting(..., meaning, f"a list of 1 to {most} texts", min_length=1, max_length=most)


def _attribute(meaning: str) -> Any:
    return setting(..., meaning, "1 to 64 characters", min_length=1, max_length=64)


class SourceRule(Section):
    """A network that users come from."""

    network: NetworkText = setting(..., "The network.", "a network such as 192.0.2.0/24")
    action: Literal["allow", "deny"] = choice(
        "allow", "What happens to users from there.", '"allow" or "deny"'
    )


class BrowserRule(Section):
    """A user agent."""

    pattern: str = setting(
        ...,
        "Pattern of the user-agent text; * is any text.",
        "1 to 256 characters",
        min_length=1,
        max_length=256,
    )
    action: Literal["allow", "deny"] = choice("allow", "What happens to such clients.", '"allow" or "deny"')


class CertificateAttribute(Section):
    """A field of the certificate's subject and the values it may have."""

    attribute: str = _attribute("Attribute such as CN, OU, O or serialNumber.")
    values: Texts = _patterns("Allowed values; * is any text.", 100)


class CertificateRequirement(Section):
    """The certificate that a client shows in TLS (gateway.client_certificates must be "ask")."""

    require: Literal["none", "optional", "required"] = choice(
        "none",
        "none: not looked at; optional: remembered for role mapping when it is valid; required: no sign-in without.",
        '"none", "optional" or "required"',
    )
    attributes: Annotated[tuple[CertificateAttribute, ...], FromList] = objects(
        "What a required certificate must hold as well.", most=32
    )


class SourcePolicy(Section):
    """Where users may come from: the first rule that matches decides."""

    rules: Annotated[tuple[SourceRule, ...], FromList] = objects("Rules, in order.", most=500, ordered=True)
    otherwise: Literal["allow", "deny"] = choice("allow", "For everybody else.", '"allow" or "deny"')


class BrowserPolicy(Section):
    """With which programs users may come: the first rule that matches decides."""

    rules: Annotated[tuple[BrowserRule, ...], FromList] = objects("Rules, in order.", most=100, ordered=True)
    otherwise: Literal["allow", "deny"] = choice("allow", "For everything else.", '"allow" or "deny"')


class PasswordPolicy(Section):
    """What is asked of passwords before they are checked."""

    minimum_length: int = number(
        0,
        "Passwords shorter than this are refused, whatever the auth server says; 0 is no rule.",
        0,
        128,
        "characters",
    )


class SessionLimits(Section):
    """How many may be signed in."""

    max_sessions_per_user: int = number(
        5, "Sessions of one user at a time; at the limit the user chooses one to end.", 1, 100_000
    )
    max_users: int = number(0, "Users of this realm at a time; 0 is no limit.", 0, 1_000_000)


class AuthenticationPolicy(Section):
    """Who may try to sign in at all."""

    source: SourcePolicy = SourcePolicy()
    browser: BrowserPolicy = BrowserPolicy()
    certificate: CertificateRequirement = CertificateRequirement()
    password: PasswordPolicy = PasswordPolicy()
    limits: SessionLimits = SessionLimits()


class UserNameCondition(Section):
    """The user's name."""

    kind: Literal["user"] = choice("user", "Kind of condition.", '"user"')
    values: Texts = _patterns("Names; * is any text.")
    negate: bool = switch(False, "Turns the condition round: is not.")


class GroupCondition(Section):
    """Membership in a group of the auth or directory server."""

    kind: Literal["group"] = choice("group", "Kind of condition.", '"group"')
    values: Texts = _patterns("Groups, one of which is enough; * is any text.")
    negate: bool = switch(False, "Turns the condition round: in none of them.")


class AttributeCondition(Section):
    """An attribute of the user in the auth or directory server."""

    kind: Literal["attribute"] = choice("attribute", "Kind of condition.", '"attribute"')
    attribute: str = _attribute("Name of the attribute.")
    values: Texts = _patterns("Values, one of which is enough; * is any text.")
    negate: bool = switch(False, "Turns the condition round: has none of them.")


class CertificateCondition(Section):
    """A field of the certificate that the client showed and that was valid."""

    kind: Literal["certificate"] = choice("certificate", "Kind of condition.", '"certificate"')
    attribute: str = _attribute("Attribute such as CN, OU, O or serialNumber.")
    values: Texts = _patterns("Values, one of which is enough; * is any text.")
    negate: bool = switch(False, "Turns the condition round: has none of them.")


class ExpressionCondition(Section):
    """A custom expression, for example: group = "Staff" AND time.hour >= 8 AND NOT sourceIP in 192.0.2.0/24."""

    kind: Literal["expression"] = choice("expression", "Kind of condition.", '"expression"')
    text: str = setting(
        ...,
        "The expression.",
        "an expression of at most 4000 characters",
        hints={"expression": True},
        min_length=1,
        max_length=4000,
    )


Condition = Annotated[
    UserNameCondition | GroupCondition | AttributeCondition | CertificateCondition | ExpressionCondition,
    Field(discriminator="kind"),
]


class RoleMappingRule(Section):
    """When the condition holds, the user gets the roles."""

    name: Name = setting(..., "Name in logs and explanations.", "1 to 64 characters, used once in its realm")
    condition: Condition = setting(..., "When the rule matches.", "one kind of condition")
    roles: Names = references("roles", "Roles that it gives.", most=200)
    stop: bool = switch(False, "Stop processing rules when this rule matches.")


class AnyRealm(Named):
    """What realms of users and of administrators have in common."""

    server: Name = reference("auth_servers", "Authentication server.", default=...)
    directory: str = reference(
        "auth_servers",
        'Directory server that groups and attributes come from; "" is the authentication server.',
        optional=True,
    )
    policy: AuthenticationPolicy = AuthenticationPolicy()


class Realm(AnyRealm):
    """Who signs in where, who may try, and which roles they get."""

    rules: Annotated[tuple[RoleMappingRule, ...], FromList] = objects(
        "Role mapping rules, in order.", most=2000, ordered=True
    )
    when_several: Literal["merge", "choose-role", "choose-rule"] = choice(
        "merge",
        "When several roles are assigned. merge: settings of all of them; choose-role: the user chooses one role; "
        "choose-rule: the user chooses among the sets of roles that single rules assigned.",
        '"merge", "choose-role" or "choose-rule"',
    )


class AdminRoleMappingRule(RoleMappingRule):
    """When the condition holds, the administrator gets the delegated roles."""

    roles: Names = references("admin_roles", "Delegated roles that it gives.", most=200)


class AdminRealm(AnyRealm):
    """Who signs in as an administrator, who may try, and which delegated roles they get."""

    rules: Annotated[tuple[AdminRoleMappingRule, ...], FromList] = objects(
        "Role mapping rules, in order.", most=2000, ordered=True
    )
    session_seconds: int = number(4 * 3600, "Length of an administrator's session.", 60, 7 * DAY, "seconds")
    idle_seconds: int = number(900, "Time without a click after which it ends.", 30, DAY, "seconds")


Right = Literal["none", "read", "write"]


def _right(what: str) -> Right:
    result: Right = choice("none", what, '"none", "read" or "write"')
    return result


class AdminRole(Named):
    """What an administrator with this delegated role may see and change."""

    system: Right = _right("Status, network, certificates, cluster, client logs.")
    logs: Right = _right(
        "Events, user access and admin access logs, what people reached and were denied, explanations; "
        "write: their settings."
    )
    authentication: Right = _right("Auth servers, realms, sign-in policies, pages and notifications.")
    users: Right = _right("Local users: add, change, disable, delete.")
    roles: Right = _right("User roles and resource policies.")
    connections: Right = _right("Connection sets and component sets.")
    sessions: Right = _right("Live sessions; write: end and extend them.")
    maintenance: Right = _right("Revisions, import, export, push, backup; write: roll back, import, push.")
    user_records: Right = _right(
        "For other gateways alone, by a token: exchange bookmarks and preferences of synchronised users."
    )
    administrators: Right = _right("Administrators, delegated roles, tokens. write is full power.")


RIGHTS = tuple(name for name in AdminRole.model_fields if name not in Named.model_fields)
"""The areas of administration."""


class SignInPolicy(Named):
    """A URL and what happens there."""

    enabled: bool = switch(True, "Off: the URL answers that sign-in is not possible here.")
    url: str = setting(
        ...,
        "host/path/ that it answers; * in front stands for any host.",
        'a text such as "*/", "*/admin/" or "vpn.example.com/staff/"',
        pattern=r"^(\*|\*?[A-Za-z0-9.-]*)/(?:[A-Za-z0-9._~-]+/)*$",
        max_length=255,
    )
    user_type: Literal["users", "administrators"] = choice(
        "users", "Who signs in there.", '"users" or "administrators"'
    )
    page: str = reference("sign_in_pages", 'Page that is shown; "" is the default page.', optional=True)
    realms: Names = references("realms", "Realms of users, in order; the first is the default.", most=100)
    admin_realms: Names = references(
        "admin_realms", "Realms of administrators, in order; the first is the default.", most=100
    )
    realm_choice: Literal["list", "typed"] = choice(
        "list", "The user picks the realm from a list, or types its name.", '"list" or "typed"'
    )
    realm_by_suffix: bool = switch(
        False, "The realm is taken from the user name: name@realm or realm\\name of a realm listed here."
    )
    strip_suffix: bool = switch(True, "That part is removed before the name goes to the auth server.")
    fail_without_suffix: bool = switch(
        False, "Refuse a name without such a part instead of asking for the realm."
    )
    pre_notification: str = reference(
        "sign_in_notifications", "Notification before signing in.", optional=True
    )
    post_notification: str = reference(
        "sign_in_notifications", "Notification after signing in.", optional=True
    )


class SignInPage(Named):
    """What people see when they sign in."""

    kind: Literal["standard", "custom"] = choice(
        "standard",
        "standard: the built-in page with the texts below; custom: uploaded templates.",
        '"standard" or "custom"',
    )
    title: str = text("Title.", default="Welcome", longest=100)
    welcome: str = text("Text above the form.", multiline=True)
    instructions: str = text("Help below the form.", multiline=True)
    user_label: str = text("Label of the user name.", default="User name", longest=60)
    password_label: str = text("Label of the password.", default="Password", longest=60)
    templates: str = setting(
        "",
        "The uploaded archive of a custom page, by its SHA-256.",
        "64 hexadecimal digits of an upload, or empty",
        pattern=r"^([0-9a-f]{64})?$",
    )


class SignInNotification(Named):
    """A text to agree to."""

    text: str = setting(
        ...,
        "The text.",
        f"a text of 1 to {2 * MAX_TEXT} characters",
        hints={"multiline": True},
        min_length=1,
        max_length=2 * MAX_TEXT,
    )
