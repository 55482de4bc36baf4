"""What a commit adds to a tree: the versions of connection sets, and warnings about what must wait."""

from __future__ import annotations

from collections.abc import Iterator

from lockgate.server.config.findings import Finding
from lockgate.server.config.schema import Names
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import PushTarget, RecordPeer

MAX_VERSION = 1 << 31

# Settings that the supervisor or the edge reads once, at the start of the server.
AT_START: tuple[Names, ...] = (
    ("gateway", "listen"),
    ("gateway", "admin_listen"),
    ("gateway", "tls_minimum"),
    ("gateway", "client_certificates"),
    ("network", "pools"),
    ("network", "mtu"),
    ("network", "tun_name"),
    ("esp", "enabled"),
    ("esp", "port"),
    ("limits",),
)


def raise_versions(new: Configuration, current: Configuration, least: int = 1) -> Configuration:
    """`new` with a higher version of every connection set that differs from the current one.

    least: version of a set that is not in the current tree. Where an old revision comes back this is the number of
    the new one: a set that was removed meanwhile is newer than what clients may still have. Otherwise such a set
    keeps the version it came with, so that servers of one origin count alike.
    """
    known = {each.guid: each for each in current.connection_sets}
    sets = []
    for each in new.connection_sets:
        old = known.get(each.guid)
        if old is None:
            version = max(each.version, least)
        elif each.model_copy(update={"version": old.version}) == old:
            version = old.version
        else:
            version = max(each.version, old.version + 1)
        sets.append(each.model_copy(update={"version": min(version, MAX_VERSION)}))
    return new.model_copy(update={"connection_sets": tuple(sets)})


def waiting(new: Configuration, current: Configuration) -> Iterator[Finding]:
    """Warnings about changed settings that take effect later."""
    for path in AT_START:
        before, after = current, new
        for key in path:
            before, after = getattr(before, key), getattr(after, key)
        if before != after:
            yield Finding(path, "takes effect at the next start of the server", "", warning=True)


Target = PushTarget | RecordPeer
"""What a secret is sent to."""


def _targets(tree: Configuration) -> list[tuple[Names, Target]]:
    """Those that have a token, each with the place of it."""
    found: list[tuple[Names, Target]] = [
        *((("push_targets", each.name, "token"), each) for each in tree.push_targets),
        *((("user_records", "peers", each.name, "token"), each) for each in tree.user_records.peers),
    ]
    return [(path, target) for path, target in found if target.token]


def tokens_that_came(new: Configuration, current: Configuration) -> set[str]:
    """Sealed tokens that are not in force: entered just now, or taken from an older revision."""
    return {target.token for _, target in _targets(new)} - {target.token for _, target in _targets(current)}


def redirected(
    new: Configuration, before: Configuration, tokens: set[str] | None = None
) -> Iterator[Finding]:
    """Secrets that would be sent to another server than the one they were entered for.

    Nobody reads a secret back; changing the address beside it must not be a way to get it.
    tokens: the sealed ones that are looked at; without it all.
    """
    known = {target.token: target for _, target in _targets(before)}
    for path, target in _targets(new):
        old = known.get(target.token) if tokens is None or target.token in tokens else None
        if old is not None and (old.url, old.ca) != (target.url, target.ca):
            yield Finding(
                path,
                "the token was entered for another address or CA",
                "the token of the new address, entered again",
            )
