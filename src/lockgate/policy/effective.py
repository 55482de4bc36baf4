"""What a set of roles amounts to: options merged, and the resource policies that apply."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lockgate.model.access_rule import AccessRule, Network
from lockgate.model.decision import Reason
from lockgate.model.policy import (
    AppliesTo,
    Bookmark,
    ConnectionProfile,
    Policy,
    Role,
    SessionOptions,
    UiOptions,
    VpnOptions,
)
from lockgate.policy import merge

VPN = "VPN Tunneling"
"""How the guides call the access feature; the reason about it begins so."""


@dataclass(frozen=True, slots=True)
class Effective:
    """Everything a session gets from its roles. The same roles under the same policy give the same.

    roles:     those that exist, in the order given.
    vpn:       whether it may tunnel; without that `vpn_options`, `profile` and what follows mean nothing.
    includes:  networks that go through the tunnel; without any, and without names, everything does.
               excludes: those that do not. include_names, exclude_names: the same by DNS name (`policy.split`).
    rate_up, rate_down: bits per second from and to the client, 0 for no limit.
    access:    rules in order; no rule denies.
    """

    roles: tuple[str, ...]
    session: SessionOptions
    web: bool
    bookmarks: tuple[Bookmark, ...]
    own_bookmarks: bool
    ui: UiOptions
    vpn: bool
    vpn_options: VpnOptions
    profile: ConnectionProfile
    includes: tuple[Network, ...]
    excludes: tuple[Network, ...]
    include_names: tuple[str, ...]
    exclude_names: tuple[str, ...]
    rate_up: int
    rate_down: int
    access: tuple[AccessRule, ...]
    reasons: tuple[Reason, ...]


def effective(policy: Policy, roles: Iterable[str]) -> Effective:
    """The settings for somebody with all of these roles. Names that are no roles give nothing."""
    names = tuple(dict.fromkeys(role for role in roles if role in policy.roles))
    mine = [policy.roles[name] for name in names]
    tunnelling = [role for role in mine if role.vpn_tunneling]
    browsing = [role for role in mine if role.web]
    notes: list[Reason] = []
    members = frozenset(names)
    session = merge.session(mine, notes) if mine else SessionOptions()
    options = merge.vpn(tunnelling, notes) if tunnelling else VpnOptions()
    _feature("Web", "web", browsing, mine, notes)
    _feature(VPN, "vpn_tunneling", tunnelling, mine, notes)
    told = notes if tunnelling else []  # of what means nothing nothing is said
    profile = _first(policy.profiles, members, "connection_profiles", "connection profile", told)
    split = _split(policy, options, members, told)
    bandwidth = _first(policy.bandwidth, members, "bandwidth", "bandwidth limit", told)
    return Effective(
        roles=names,
        session=session,
        web=bool(browsing),
        bookmarks=merge.bookmarks(browsing),
        own_bookmarks=bool(browsing) and merge.own_bookmarks(browsing, notes),
        ui=merge.ui(mine, notes) if mine else UiOptions(),
        vpn=bool(tunnelling),
        vpn_options=options,
        profile=profile or ConnectionProfile(),
        includes=split.networks[True],
        excludes=split.networks[False],
        include_names=split.names[True],
        exclude_names=split.names[False],
        rate_up=bandwidth.rate_up if bandwidth else 0,
        rate_down=bandwidth.rate_down if bandwidth else 0,
        access=access_of(policy, members) if tunnelling else (),
        reasons=tuple(notes),
    )


def access_of(policy: Policy, roles: frozenset[str]) -> tuple[AccessRule, ...]:
    """The access rules that apply to somebody with these roles, in order."""
    return tuple(each.rule for each in policy.access if each.applies.matches(roles))


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def applies(self) -> AppliesTo: ...


_P = TypeVar("_P", bound=_Named)


def _first(
    policies: Iterable[_P], roles: frozenset[str], collection: str, what: str, notes: list[Reason]
) -> _P | None:
    """The first policy that applies, which decides alone."""
    for each in policies:
        if each.applies.matches(roles):
            notes.append(
                Reason(f"{what} {each.name!r} is the first that applies", f"{collection}/{each.name}/applies")
            )
            return each
    notes.append(Reason(f"no {what} applies", collection))
    return None


def _feature(name: str, setting: str, having: list[Role], mine: list[Role], notes: list[Reason]) -> None:
    if having:
        text = f"{name} is on: role {having[0].name!r} has it"
        notes.append(Reason(text, f"roles/{having[0].name}/{setting}", True))
    else:
        text = f"{name} is off: " + ("no role has it" if mine else "there is no role")
        said = "none of your roles includes VPN access" if name == VPN else ""
        notes.append(Reason(text, "roles", False, said))


@dataclass(frozen=True, slots=True)
class _Split:
    """Networks and names inside (True) and outside (False) the tunnel, each once."""

    networks: dict[bool, tuple[Network, ...]]
    names: dict[bool, tuple[str, ...]]


def _split(policy: Policy, options: VpnOptions, roles: frozenset[str], notes: list[Reason]) -> _Split:
    networks: dict[bool, dict[Network, None]] = {True: {}, False: {}}
    names: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for each in policy.splits if options.split_tunneling == "enabled" else ():
        if each.applies.matches(roles):
            networks[each.include].update(dict.fromkeys(each.networks))
            names[each.include].update(dict.fromkeys(each.names))
            verb = "go through the tunnel" if each.include else "stay outside the tunnel"
            notes.append(
                Reason(f"networks of {each.name!r} {verb}", f"split_tunneling_networks/{each.name}/applies")
            )
    if options.split_tunneling == "enabled" and not networks[True] and not names[True]:
        notes.append(
            Reason(
                "no networks to include apply: everything goes through the tunnel", "split_tunneling_networks"
            )
        )
    return _Split(
        {include: tuple(found) for include, found in networks.items()},
        {include: tuple(found) for include, found in names.items()},
    )
