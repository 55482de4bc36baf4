"""Sign-in URLs, and realms named in what a person types as user name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lockgate.model.decision import Reason
from lockgate.model.policy import Audience, SignInPolicy
from lockgate.model.text import printable

MAX_PATH = 1000  # characters; policies have at most 255
MAX_SHOWN = 100  # characters in a reason
# Segments of what a sign-in policy's URL can hold; anything else is odd and fits nothing.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """policy: the one that decides for a URL; None where nobody can sign in."""

    policy: SignInPolicy | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class TypedName:
    """What was typed as user name. allow: False when it must name a realm and does not.

    name: for the auth server. realm: None when it is still to be chosen.
    """

    allow: bool
    name: str
    realm: str | None
    reasons: tuple[Reason, ...] = ()


def find(policies: Iterable[SignInPolicy], audience: Audience, host: str, path: str) -> Found:
    """The sign-in policy of a URL: the most exact host decides, then the longest path.

    A policy answers its path and everything below. One that is disabled decides too: by no.
    host: as the client wrote it, with or without a port. path: percent-decoded, without a query.
    """
    name, segments = _host(host), _segments(path)
    url = printable(f"{host}{path}", MAX_SHOWN)
    if segments is None:
        return Found(None, (Reason(f"{url} is no path to sign in at", "", False),))
    best: SignInPolicy | None = None
    rank: tuple[int, int] = (-1, -1)
    for policy in policies:
        if policy.audience != audience:
            continue
        place = _host_rank(policy.host, name), _path_rank(policy.path, segments)
        if min(place) >= 0 and place > rank:  # of equals the first
            best, rank = policy, place
    if best is None:
        return Found(
            None, (Reason(f"no sign-in policy for {audience} answers {url}", "sign_in_policies", False),)
        )
    where = f"sign_in_policies/{best.name}"
    reasons = (Reason(f"{best.host}{best.path} is the most exact sign-in URL for {url}", where, True),)
    if not best.enabled:
        return Found(
            None, (*reasons, Reason("this sign-in policy is switched off", f"{where}/enabled", False))
        )
    return Found(best, reasons)


def split_name(policy: SignInPolicy, typed: str) -> TypedName:
    r"""User name and realm out of name@realm or realm\name, where the policy wants that.

    Realm names count as they are written; the longest that fits is taken. A realm without a name fits nothing.
    """
    if not policy.realm_by_suffix:
        return TypedName(True, typed, None)
    where = f"sign_in_policies/{policy.name}"
    for realm in sorted(policy.realms, key=len, reverse=True):
        if typed.endswith(f"@{realm}"):
            name = typed[: -len(realm) - 1]
        elif typed.startswith(f"{realm}\\"):
            name = typed[len(realm) + 1 :]
        else:
            continue
        if name.strip():
            reason = Reason(f"the user name names the realm {realm}", f"{where}/realm_by_suffix", True)
            return TypedName(True, name if policy.strip_suffix else typed, realm, (reason,))
    if policy.fail_without_suffix:
        reason = Reason("the user name must name one of the realms", f"{where}/fail_without_suffix", False)
        return TypedName(False, typed, None, (reason,))
    return TypedName(True, typed, None)


def _host(text: str) -> str:
    """Lower case, without port, brackets and a final dot."""
    text = text.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") == 1:
        text = text.partition(":")[0]
    return text.removesuffix(".")


def _segments(path: str) -> tuple[str, ...] | None:
    """Of a path; None for one that is not plainly a path."""
    if len(path) > MAX_PATH or not path.startswith("/"):
        return () if path == "" else None
    segments = tuple(path.removeprefix("/").removesuffix("/").split("/"))
    if segments == ("",):
        return () if path == "/" else None
    if not all(_SEGMENT.fullmatch(each) and each not in (".", "..") for each in segments):
        return None
    return segments


def _host_rank(pattern: str, host: str) -> int:
    """-1 for one that does not fit, 0 for any host, more for more exact."""
    if pattern in ("", "*"):
        return 0
    if pattern.startswith("*"):
        return len(pattern) - 1 if host.endswith(pattern[1:]) else -1
    return 1000 if host == pattern else -1  # longer than any suffix


def _path_rank(pattern: str, segments: tuple[str, ...]) -> int:
    """-1 for one that does not fit, else how many segments it has."""
    wanted = tuple(pattern.strip("/").split("/")) if pattern != "/" else ()
    return len(wanted) if segments[: len(wanted)] == wanted else -1
