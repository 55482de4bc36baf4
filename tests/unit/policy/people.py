"""What the policy's tests share: a moment, somebody, and small policies."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from ipaddress import ip_network
from types import MappingProxyType

from lockgate.model.facts import CertificateFacts, SignInFacts
from lockgate.model.pattern import Patterns
from lockgate.model.policy import (
    CertificateRequirement,
    Policy,
    Realm,
    Restrictions,
    Role,
    RoleMappingRule,
    UserNameCondition,
)

# A Wednesday, 09:30 by the gateway's clock, 07:30 UTC.
NOW = datetime(2026, 7, 1, 9, 30, tzinfo=timezone(timedelta(hours=2)))
CERTIFICATE = CertificateFacts(
    subject={"CN": ("alice",), "OU": ("Engineering", "Field"), "serialNumber": ("0042",)},
    issuer="CN=Example CA",
    serial="1F",
    fingerprint="ab" * 32,
)
ALICE = SignInFacts(
    user="alice",
    server="System Local",
    realm="Users",
    source="192.0.2.9",
    user_agent="Lockgate-Client/0.1 (Linux)",
    host_name="laptop",
    time=(NOW - timedelta(hours=1)).timestamp(),
    groups=("Staff", "Dev"),
    attributes={"mail": ("alice@example.com", "a@example.org"), "level": ("3",)},
    certificate=CERTIFICATE,
)
LOOKS = Restrictions(certificate=CertificateRequirement("optional"))
EVERYBODY = UserNameCondition(Patterns.of(["*"]))


def rule(name: str, *roles: str, when=EVERYBODY, stop: bool = False) -> RoleMappingRule:
    return RoleMappingRule(name, when, roles, stop)


def realm(*rules: RoleMappingRule, **rest) -> Realm:
    values = {
        "name": "Users",
        "server": "System Local",
        "directory": "System Local",
        "restrictions": LOOKS,
        "rules": rules,
        "path": "realms/Users",
    }
    return Realm(**{**values, **rest})


def policy(*roles: Role, users: Realm | None = None, **rest) -> Policy:
    empty = Policy(
        revision=7,
        realms=MappingProxyType({} if users is None else {users.name: users}),
        admin_realms=MappingProxyType({}),
        roles=MappingProxyType({role.name: role for role in roles}),
        admin_roles=MappingProxyType({}),
        sign_in_policies=(),
        notifications=MappingProxyType({}),
        access=(),
        profiles=(),
        splits=(),
        bandwidth=(),
        pools=(ip_network("10.88.0.0/16"), ip_network("fd00:88::/64")),
        reserved=(),
        gateway_name="gateway.example.org",
    )
    return replace(empty, **rest)
