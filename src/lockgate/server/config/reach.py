"""Changes that reach further than the section they stand in.

Who may write authentication decides about the servers that users are known by. Where a realm of administrators
is known by the same, that decides who is an administrator: it takes the right to write administrators as well.
Who names another gateway that users' records are exchanged with gives it all of them: that takes the right to
write users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lockgate.server.config.changes import Change
from lockgate.server.config.registry import AREAS
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import AdminRealm, CertificateCondition, ExpressionCondition

_NONE: frozenset[str] = frozenset()
_ADMINISTRATORS = frozenset({AREAS["admin_realms"]})
_USERS = frozenset({"users"})


def reached(
    old: Configuration, new: Configuration, changes: Iterable[Change], renamed: Mapping[str, str]
) -> frozenset[str]:
    """Areas besides those of the sections. renamed: auth servers whose users go to another name with the change."""
    changed = list(changes)
    peers = _USERS if any(_names_peers(change) for change in changed) else _NONE
    return peers | _reached_administrators(old, new, changed, renamed)


def _names_peers(change: Change) -> bool:
    first, *rest = change.path.split("/")
    return first == "user_records" and (not rest or rest[0] == "peers") and change.kind != "moved"


def _reached_administrators(
    old: Configuration, new: Configuration, changes: Iterable[Change], renamed: Mapping[str, str]
) -> frozenset[str]:
    realms = (*old.admin_realms, *new.admin_realms)
    servers = {realm.server for realm in realms} | {realm.directory for realm in realms if realm.directory}
    if servers & {*renamed, *renamed.values()}:
        return _ADMINISTRATORS
    certificates = any(_by_certificate(realm) for realm in realms)
    for change in changes:
        parts = change.path.split("/")
        if change.kind == "moved":
            continue
        if parts[0] == "auth_servers" and (len(parts) == 1 or parts[1] in servers):
            return _ADMINISTRATORS
        if certificates and parts[:2] == ["certificates", "trusted_client_cas"]:
            return _ADMINISTRATORS
    return _NONE


def _by_certificate(realm: AdminRealm) -> bool:
    """Whether a certificate decides who gets in there, or as what."""
    conditions = [rule.condition for rule in realm.rules]
    return realm.policy.certificate.require == "required" or any(
        isinstance(each, CertificateCondition)
        or (isinstance(each, ExpressionCondition) and "cert" in each.text.casefold())
        for each in conditions
    )
