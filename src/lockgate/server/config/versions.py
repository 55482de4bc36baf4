"""What a commit adds to a tree: the versions of connection sets, and warnings about what must wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lockgate.server.config.findings import Finding
from lockgate.server.config.schema import Names
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import PushTarget, RecordPeer, Traces

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


Target = PushTarget | RecordPeer | Traces
"""What a secret is sent to."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """A sealed secret, its place, and what it is sent to."""

    path: Names
    secret: str
    target: Target


def _bound(tree: Configuration) -> list[_Bound]:
    """Those that there are."""
    found: list[_Bound] = [
        *(_Bound(("push_targets", each.name, "token"), each.token, each) for each in tree.push_targets),
        *(
            _Bound(("user_records", "peers", each.name, "token"), each.token, each)
            for each in tree.user_records.peers
        ),
        _Bound(("traces", "headers"), tree.traces.headers, tree.traces),
    ]
    return [each for each in found if each.secret]


def tokens_that_came(new: Configuration, current: Configuration) -> set[str]:
    """Sealed tokens that are not in force: entered just now, or taken from an older revision."""
    return {each.secret for each in _bound(new)} - {each.secret for each in _bound(current)}


def redirected(
    new: Configuration, before: Configuration, tokens: set[str] | None = None
) -> Iterator[Finding]:
    """Secrets that would be sent to another server than the one they were entered for.

    Nobody reads a secret back; changing the address beside it must not be a way to get it.
    tokens: the sealed ones that are looked at; without it all.
    """
    known = {each.secret: each.target for each in _bound(before)}
    for each in _bound(new):
        old = known.get(each.secret) if tokens is None or each.secret in tokens else None
        if old is not None and (old.url, old.ca) != (each.target.url, each.target.ca):
            what = "the headers were" if isinstance(each.target, Traces) else "the token was"
            again = "headers" if isinstance(each.target, Traces) else "token"
            yield Finding(
                each.path,
                f"{what} entered for another address or CA",
                f"the {again} of the new address, entered again",
            )
